/*
 * store_layout.c - what each layout of the rows of queued messages writes: bytes per 1000 messages.
 *
 *     gcc -O2 -D_GNU_SOURCE -o build/store_layout test/perf/store_layout.c -lsqlite3
 *     build/store_layout DIRECTORY [PAYLOAD [BYTES-OF-A-RECIPIENT [pad]]]
 *
 * Three layouts, messages of PAYLOAD bytes under a topic of 6 to N sessions that are away:
 *
 *   clustered   message rows; delivery rows by (session, number), so those of one session are neighbours
 *   appended    message rows; delivery rows in the order of writing
 *   one row     message rows that hold their recipients, never updated; a mark for each session
 *
 * Bytes are those that SQLite hands to write() (wchar of /proc/self/io: the -wal, and the file when a
 * checkpoint is made, each 4 MiB of -wal and at the end), and those that reach the block device when
 * DIRECTORY is on a file system of its own (/sys/dev/block/MAJOR:MINOR/stat after syncfs; journal and inodes
 * of the file system included). The -wal has had its size before: that it grows costs once only. Taken back:
 * sessions take their messages and acknowledge them, WINDOW in a commit each.
 *
 * Found (ext4 of its own, synchronous FULL; KiB to the device for 1000 messages of 64 bytes):
 *
 *                        1 away, in a commit       10 away   100 away   1000 away   1 of 100   99 others
 *   layout      page     1      10     50    200      200        200         200      takes       take
 *   clustered   1024   6876   1331    506    330     1080       6956       88244        604      21356
 *   appended    1024   6474   1117    460    316      833       5796       55436       4080       6456
 *   one row     1024   5357    829    342    246      340       1136        8488        316       1672
 *   one row     2048   6336    977    401    250      326       1128        8672        368       1924
 *   one row     4096   8344   1178    516    276      346       1144        9168        464       2512
 *
 * So: one row, pages of 1024 bytes. With payloads of 10,000 bytes, one in a commit: 26624, 28488, 32324; CPU
 * is the same. A commit costs 6 KiB beside its rows (the first page, an inner page, the end of the last one,
 * and blocks of 4 KiB), a byte of a row 2.2 bytes (-wal and file). Padding commits to 4 KiB (psow=0) costs a
 * sixth more.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum layout { CLUSTERED, APPENDED, ONE_ROW, LAYOUTS };
enum { WAL_BYTES = 4 << 20, WINDOW = 20, RECIPIENT = 4 };

static const char *const names[LAYOUTS] = {"clustered", "appended", "one row"};
static const char message_table[] = "CREATE TABLE message (number INTEGER PRIMARY KEY, topic TEXT, payload "
                                    "BLOB, flags INTEGER, origin INTEGER, "
                                    "owed BLOB, sum INTEGER)";
static const char *const other_table[LAYOUTS] = {
    "CREATE TABLE delivery (session INTEGER, number INTEGER, flags INTEGER, id INTEGER, sum INTEGER, "
    "PRIMARY KEY (session, number)) WITHOUT ROWID",
    "CREATE TABLE delivery (place INTEGER PRIMARY KEY, session INTEGER, number INTEGER, flags INTEGER, id "
    "INTEGER, "
    "sum INTEGER)",
    "CREATE TABLE mark (session INTEGER PRIMARY KEY, number INTEGER, sum INTEGER)",
};
static const char *const put_other[LAYOUTS] = {
    "INSERT INTO delivery VALUES (?1, ?2, 1, 4711, ?4)",
    "INSERT INTO delivery VALUES (?3, ?1, ?2, 1, 4711, ?4)",
    "REPLACE INTO mark VALUES (?1, ?2, ?4)",
};
static const char *const take_other[LAYOUTS] = {
    "DELETE FROM delivery WHERE session = ?1 AND number = ?2",
    "DELETE FROM delivery WHERE place = ?3",
    "REPLACE INTO mark VALUES (?1, ?2 + 1, ?4)",
};

struct run {
    enum layout layout;
    int page, group, sessions, messages, payload, recipient;
    bool pad; /* psow=0: each commit ends with a block of the device */
    char path[512];
    dev_t device;
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *put, *gone, *put_other, *take_other;
    uint64_t seed;
    int frames;          /* in the -wal since it last began */
    double checkpointed; /* bytes */
};

struct figures {
    double written, device, cpu; /* bytes, bytes (below 0: not known), seconds */
};

static void fail(struct run *run, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(run->db));
    exit(1);
}

static void sql(struct run *run, const char *text)
{
    if (sqlite3_exec(run->db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail(run, text);
}

static sqlite3_stmt *prepare(struct run *run, const char *text)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(run->db, text, -1, &s, NULL) != SQLITE_OK)
        fail(run, text);
    return s;
}

static void step(struct run *run, sqlite3_stmt *s)
{
    if (sqlite3_step(s) != SQLITE_DONE)
        fail(run, sqlite3_sql(s));
    sqlite3_reset(s);
}

static double written(void)
{
    char line[128];
    double n = 0;
    FILE *f = fopen("/proc/self/io", "re");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "wchar: %lf", &n);
    if (f)
        fclose(f);
    return n;
}

static double reached_device(const struct run *run)
{
    char path[128];
    double sectors = -1;
    int fd = open(run->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        syncfs(fd);
        close(fd);
    }
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(run->device), minor(run->device));
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%*f %*f %*f %*f %*f %*f %lf", &sectors) != 1)
        sectors = -1;
    if (f)
        fclose(f);
    return sectors * 512;
}

static struct figures now(const struct run *run)
{
    return (struct figures){written(), reached_device(run), (double)clock() / CLOCKS_PER_SEC};
}

static void open_store(struct run *run, const char *directory)
{
    char text[64];
    struct stat st;
    snprintf(run->path, sizeof run->path, "%s/layout.db", directory);
    for (const char *const *end = (const char *const[]){"", "-wal", "-shm", NULL}; *end; end++) {
        char path[520];
        snprintf(path, sizeof path, "%s%s", run->path, *end);
        unlink(path);
    }
    char uri[560];
    snprintf(uri, sizeof uri, "file:%s%s", run->path, run->pad ? "?psow=0" : "");
    if (sqlite3_open_v2(uri, &run->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL) !=
            SQLITE_OK ||
        stat(run->path, &st) < 0)
        fail(run, run->path);
    run->device = st.st_dev;
    snprintf(text, sizeof text, "PRAGMA page_size=%d", run->page);
    sql(run, text);
    sql(run, "PRAGMA journal_mode=WAL");
    sql(run, "PRAGMA synchronous=FULL");
    sql(run, "PRAGMA wal_autocheckpoint=0");
    sql(run, message_table);
    sql(run, other_table[run->layout]);
    sql(run, "CREATE TABLE warm (b BLOB); INSERT INTO warm VALUES (zeroblob(5000000)); DROP TABLE warm");
    sql(run, "PRAGMA wal_checkpoint; VACUUM; PRAGMA wal_checkpoint");
    run->begin = prepare(run, "BEGIN IMMEDIATE");
    run->commit = prepare(run, "COMMIT");
    run->put = prepare(run, "INSERT INTO message VALUES (?1, 't/abcd', ?2, 1, 12, ?3, ?4)");
    run->gone = prepare(run, "DELETE FROM message WHERE number = ?1");
    run->put_other = prepare(run, put_other[run->layout]);
    run->take_other = prepare(run, take_other[run->layout]);
}

static void close_store(struct run *run)
{
    for (sqlite3_stmt *s; (s = sqlite3_next_stmt(run->db, NULL));)
        sqlite3_finalize(s);
    sqlite3_close(run->db);
}

static int count_frames(void *arg, sqlite3 *db, const char *name, int frames)
{
    (void)db, (void)name;
    ((struct run *)arg)->frames = frames;
    return SQLITE_OK;
}

static void checkpoint(struct run *run)
{
    double before = written();
    if (sqlite3_wal_checkpoint_v2(run->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) != SQLITE_OK)
        fail(run, "checkpoint");
    run->checkpointed += written() - before;
    run->frames = 0;
}

/* As the writer does: after a checkpoint the -wal begins anew. */
static void commit(struct run *run)
{
    step(run, run->commit);
    if ((int64_t)run->frames * (run->page + 24) >= WAL_BYTES)
        checkpoint(run);
}

static void fill(void *to, size_t bytes, uint64_t *seed)
{
    for (unsigned char *p = to, *end = p + bytes; p < end; p++) {
        *seed = *seed * 6364136223846793005U + 1442695040888963407U;
        *p = (unsigned char)(*seed >> 56);
    }
}

static int64_t any_sum(struct run *run)
{
    int64_t n;
    fill(&n, sizeof n, &run->seed);
    return n;
}

static void other_row(struct run *run, sqlite3_stmt *s, int session, int64_t number)
{
    sqlite3_bind_int(s, 1, 1000 + session);
    sqlite3_bind_int64(s, 2, number);
    sqlite3_bind_int64(s, 3, number * run->sessions + session);
    sqlite3_bind_int64(s, 4, any_sum(run));
    step(run, s);
}

static void put_message(struct run *run, int64_t number)
{
    static unsigned char payload[1 << 20], owed[16 * 1024];
    fill(payload, (size_t)run->payload, &run->seed);
    fill(owed, (size_t)(run->sessions * run->recipient), &run->seed);
    sqlite3_bind_int64(run->put, 1, number);
    sqlite3_bind_blob(run->put, 2, payload, run->payload, SQLITE_STATIC);
    if (run->layout == ONE_ROW)
        sqlite3_bind_blob(run->put, 3, owed, run->sessions * run->recipient, SQLITE_STATIC);
    sqlite3_bind_int64(run->put, 4, any_sum(run));
    step(run, run->put);
    for (int s = 0; run->layout != ONE_ROW && s < run->sessions; s++)
        other_row(run, run->put_other, s, number);
}

static void put_all(struct run *run)
{
    for (int n = 0; n < run->messages; n++) {
        if (n % run->group == 0)
            step(run, run->begin);
        put_message(run, n);
        if ((n + 1) % run->group == 0 || n + 1 == run->messages)
            commit(run);
    }
}

/* A window of messages is acknowledged by these sessions; gone: nobody is owed them after that. */
static void take(struct run *run, int from_session, int to_session, int number, int count, bool gone)
{
    for (int s = from_session; s < to_session; s++) {
        for (int n = number; run->layout != ONE_ROW && n < number + count; n++)
            other_row(run, run->take_other, s, n);
        if (run->layout == ONE_ROW)
            other_row(run, run->take_other, s, number + count - 1);
    }
    for (int n = number; gone && n < number + count; n++) {
        sqlite3_bind_int64(run->gone, 1, n);
        step(run, run->gone);
    }
}

static void take_windows(struct run *run, int from_session, int to_session, bool gone)
{
    for (int n = 0; n < run->messages; n += WINDOW) {
        step(run, run->begin);
        take(run, from_session, to_session, n, run->messages - n < WINDOW ? run->messages - n : WINDOW, gone);
        commit(run);
    }
}

static void measure(struct run *run, const char *what, void (*work)(struct run *))
{
    struct figures before = now(run);
    run->checkpointed = 0;
    work(run);
    checkpoint(run);
    struct figures after = now(run);
    double k = 1000.0 / run->messages, all = after.written - before.written;
    printf("%-10s %5d %5d %5d %6d %-9s %9.0f %9.0f %9.0f %9.0f %8.1f\n", names[run->layout], run->page,
           run->group, run->sessions, run->payload, what, k * (all - run->checkpointed) / 1024,
           k * run->checkpointed / 1024, k * all / 1024,
           before.device < 0 ? -1 : k * (after.device - before.device) / 1024,
           k * 1000 * (after.cpu - before.cpu));
    fflush(stdout);
}

static void take_one(struct run *run)
{
    take_windows(run, 0, 1, run->sessions == 1);
}

static void take_rest(struct run *run)
{
    take_windows(run, 1, run->sessions, true);
}

static void measure_layout(const struct run *shape, const char *directory, bool back)
{
    struct run run = *shape;
    run.seed = 1;
    open_store(&run, directory);
    sqlite3_wal_hook(run.db, count_frames, &run);
    checkpoint(&run);
    measure(&run, "queued", put_all);
    if (back) {
        measure(&run, "one takes", take_one);
        if (run.sessions > 1)
            measure(&run, "others", take_rest);
    }
    close_store(&run);
}

int main(int argc, char **argv)
{
    static const int pages[] = {1024, 2048, 4096}, groups[] = {1, 10, 50, 200},
                     sessions[] = {1, 10, 100, 1000};
    if (argc < 2) {
        fprintf(stderr, "usage: store_layout DIRECTORY [PAYLOAD [BYTES-OF-A-RECIPIENT [pad]]]\n");
        return 1;
    }
    int payload = argc > 2 ? atoi(argv[2]) : 64, recipient = argc > 3 ? atoi(argv[3]) : RECIPIENT;
    printf("KiB for 1000 messages; CPU in ms\n%-10s %5s %5s %5s %6s %-9s %9s %9s %9s %9s %8s\n", "layout",
           "page", "group", "away", "bytes", "", "wal", "file", "both", "device", "cpu");
    for (size_t s = 0; s < 4; s++)
        for (size_t g = 0; g < 4; g++)
            for (size_t p = 0; p < 3; p++)
                for (enum layout l = 0; l < LAYOUTS; l++)
                    measure_layout(
                        &(struct run){.layout = l,
                                      .page = pages[p],
                                      .group = groups[g],
                                      .sessions = sessions[s],
                                      .messages = sessions[s] < 100 && payload < 1000 ? 20000 : 1000,
                                      .pad = argc > 4,
                                      .payload = payload,
                                      .recipient = recipient},
                        argv[1], groups[g] == 50);
    return 0;
}
