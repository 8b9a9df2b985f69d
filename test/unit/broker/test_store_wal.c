/*
 * test_store_wal.c - the scan of a -wal, judged by what SQLite itself then reads.
 *
 * SQLite makes the files; their bytes are taken while it has them open, as a crash leaves them. Row n of the
 * table is commit n, so what SQLite recovers is a number. Every byte is flipped in turn, the file is cut at
 * every length, and the last transaction is torn in pieces of 512 bytes, over nothing, over older frames and
 * over what a commit that failed has left.
 */
#include "broker/store_wal.h"

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAIN, WAL, SHM, FILES };
enum { ROOM = 256 * 1024, PIECE = 512, PAGE = 512, FRAME = PAGE + 24 };
static const char *const endings[FILES] = {"", "-wal", "-shm"};

/* The bytes of a store. */
struct image {
    size_t size[FILES];
    uint8_t bytes[FILES][ROOM];
};

struct place {
    char dir[64], path[96];
    struct image image, before, work;
};

static const char *beside_path(const struct place *place, int file)
{
    static char path[128];
    snprintf(path, sizeof path, "%s%s", place->path, endings[file]);
    return path;
}

static void put_files(const struct place *place, const struct image *image)
{
    for (int f = 0; f < FILES; f++) {
        unlink(beside_path(place, f));
        if (image->size[f] == 0)
            continue;
        int fd = open(beside_path(place, f), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0 && write(fd, image->bytes[f], image->size[f]) == (ssize_t)image->size[f]);
        close(fd);
    }
}

static void take_files(const struct place *place, struct image *image)
{
    for (int f = 0; f < FILES; f++) {
        image->size[f] = 0;
        int fd = open(beside_path(place, f), O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t n = read(fd, image->bytes[f], ROOM);
        assert_in_range(n, 0, ROOM - 1);
        image->size[f] = (size_t)n;
        close(fd);
    }
}

static void sql(sqlite3 *db, const char *text)
{
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
}

static sqlite3 *open_store(const struct place *place)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sql(db, "PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF");
    return db;
}

static sqlite3 *new_store(const struct place *place)
{
    put_files(place, &(struct image){0});
    sqlite3 *db = open_store(place);
    sql(db, "PRAGMA page_size=512; PRAGMA journal_mode=WAL; CREATE TABLE row (number INTEGER PRIMARY KEY, b "
            "BLOB)");
    sql(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    return db;
}

/* Commit number n, of about so many frames. */
static void commit(sqlite3 *db, int n, int frames)
{
    char text[128];
    snprintf(text, sizeof text, "INSERT INTO row VALUES (%d, randomblob(%d))", n,
             frames == 1 ? 20 : (frames - 1) * (PAGE - 4) - 100);
    sql(db, text);
}

/* How many commits SQLite finds: they must be the first ones. -1: it refuses the file. */
static int recovered(const struct place *place)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    int count = -1;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (sqlite3_prepare_v2(db, "SELECT count(*), coalesce(max(number), 0) FROM row", -1, &s, NULL) ==
            SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW) {
        count = sqlite3_column_int(s, 0);
        assert_int_equal(count, sqlite3_column_int(s, 1));
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return count;
}

static struct wal_scan scan(const struct place *place)
{
    struct wal_scan result;
    struct err err = {""};
    assert_int_equal(wal_scan(place->path, &result, &err), 0);
    assert_string_equal(err.text, "");
    return result;
}

/* Puts the files there, scans, lets SQLite recover. before: commits that are in the main file already. */
static int judge(const struct place *place, const struct image *image, int before, struct wal_scan *result)
{
    put_files(place, image);
    *result = scan(place);
    int found = recovered(place);
    if (found >= 0)
        assert_int_equal(found, before + (int)result->commits);
    return found < 0 ? before : found;
}

static int begin(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    snprintf(place->dir, sizeof place->dir, "/tmp/store_wal.XXXXXX");
    if (!mkdtemp(place->dir))
        return -1;
    snprintf(place->path, sizeof place->path, "%s/store", place->dir);
    *state = place;
    return 0;
}

static int end(void **state)
{
    struct place *place = *state;
    put_files(place, &(struct image){0});
    rmdir(place->dir);
    free(place);
    return 0;
}

static void nothing_there_and_nothing_wrong(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    char text[200];
    put_files(place, &(struct image){0});
    assert_int_equal(scan(place).state, WAL_NONE);

    sqlite3 *db = new_store(place);
    take_files(place, &place->image);
    assert_int_equal(place->image.size[WAL], 0);
    judge(place, &place->image, 0, &result);
    assert_int_equal(result.state, WAL_NONE);
    sqlite3_close(db);

    place->image.size[WAL] = 100000; /* a -wal that was given its size, and no more */
    memset(place->image.bytes[WAL], 0, ROOM);
    judge(place, &place->image, 0, &result);
    assert_int_equal(result.state, WAL_NONE);
    place->image.size[WAL] = 31;
    judge(place, &place->image, 0, &result);
    assert_int_equal(result.state, WAL_NONE);

    db = new_store(place);
    for (int n = 1; n <= 5; n++)
        commit(db, n, n);
    take_files(place, &place->image);
    sqlite3_close(db);
    assert_int_equal(judge(place, &place->image, 0, &result), 5);
    assert_int_equal(result.state, WAL_WHOLE);
    assert_int_equal(result.page_size, PAGE);
    assert_int_equal(result.frames, (place->image.size[WAL] - 32) / FRAME);
    assert_int_equal(result.known, result.frames);
    assert_string_equal(wal_describe(&result, text, sizeof text), "nothing is wrong with it");
}

static void what_cannot_be_read_is_said(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    struct err err = {""};
    put_files(place, &(struct image){0});
    assert_int_equal(mkdir(beside_path(place, WAL), 0700), 0);
    assert_int_equal(wal_scan(place->path, &result, &err), -1);
    assert_non_null(strstr(err.text, "store-wal: it is not a file"));
    rmdir(beside_path(place, WAL));
    assert_int_equal(symlink("store-wal", beside_path(place, WAL)), 0);
    assert_int_equal(wal_scan(place->path, &result, &err), -1);
    assert_non_null(strstr(err.text, strerror(ELOOP)));
}

/* Commits of 1, 1, 3, 1, 2 and then of 1, 1 frames, whose sizes are such that a bit of them can get lost. */
static void make_sample(struct place *place, int again)
{
    static const int frames[] = {1, 1, 3, 1, 2, 1, 1};
    sqlite3 *db = new_store(place);
    int n = 0;
    for (; n < again; n++)
        commit(db, n + 1, 2);
    if (again)
        sql(db, "PRAGMA wal_checkpoint"); /* from here on over the older frames */
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        commit(db, ++n, frames[i]);
        if (i == 2)
            take_files(place, &place->before);
    }
    take_files(place, &place->image);
    sqlite3_close(db);
}

/* What was acknowledged and is lost must never be passed over: more than the last one is damage. */
static void check_flip(struct place *place, size_t at, uint8_t mask, int before, int all)
{
    struct wal_scan result;
    char text[200];
    place->work.bytes[WAL][at] ^= mask;
    int lost = all - judge(place, &place->work, before, &result);
    place->work.bytes[WAL][at] ^= mask;
    bool told = lost == 0 || result.state == WAL_DAMAGED || (lost == 1 && result.state == WAL_TORN);
    if (!told)
        fail_msg("byte %zu ^ %02x: %d are lost, but: %s (%d)", at, mask, lost,
                 wal_describe(&result, text, sizeof text), result.state);
    if (lost == 0)
        assert_true(result.state == WAL_WHOLE || result.state == WAL_NONE);
    else if (result.state == WAL_DAMAGED &&
             result.dropped > (uint64_t)lost + 1) /* + 1: a flip can make it a commit */
        fail_msg("byte %zu ^ %02x: %d are lost, said are %d", at, mask, lost, (int)result.dropped);
    assert_true(result.bad_at <= at || lost == 0);
}

static void flip_all(struct place *place, int before, int all, uint8_t mask, bool with_shm)
{
    place->work = place->image;
    place->work.size[SHM] = with_shm ? place->image.size[SHM] : 0;
    for (size_t at = 0; at < place->image.size[WAL]; at++)
        check_flip(place, at, mask, before, all);
}

static void every_byte_is_flipped(void **state)
{
    make_sample(*state, 0);
    flip_all(*state, 0, 7, 0xff, false);
}

static void every_byte_over_older_frames_is_flipped(void **state)
{
    make_sample(*state, 8);
    flip_all(*state, 8, 15, 0x04, false);
}

/* Here the -shm knows better than that the last one was torn. */
static void every_byte_is_flipped_and_the_shm_knows(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    make_sample(place, 0);
    place->work = place->image;
    for (size_t at = 0; at < place->image.size[WAL]; at++) {
        place->work.bytes[WAL][at] ^= 0x10;
        put_files(place, &place->work);
        result = scan(place);
        place->work.bytes[WAL][at] ^= 0x10;
        assert_int_equal(result.state, WAL_DAMAGED);
    }
}

static void it_is_cut_at_every_length(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    make_sample(place, 0);
    place->work = place->image;
    for (size_t size = 0; size < place->image.size[WAL]; size++) {
        place->work.size[WAL] = size;
        place->work.size[SHM] = 0;
        judge(place, &place->work, 0, &result);
        assert_true(result.state != WAL_DAMAGED);
        place->work.size[SHM] = place->image.size[SHM];
        judge(place, &place->work, 0, &result);
        assert_int_equal(result.state, size < 32 ? WAL_NONE : WAL_DAMAGED);
    }
}

/* An -shm of before, as a power cut may leave it, or of another day, is no evidence. */
static void an_older_shm_says_nothing(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    make_sample(place, 0);
    place->work = place->image;
    memcpy(place->work.bytes[SHM], place->before.bytes[SHM], ROOM);
    assert_int_equal(judge(place, &place->work, 0, &result), 7);
    assert_int_equal(result.state, WAL_WHOLE);
    assert_in_range(result.known, 1, result.frames - 1);
    struct image *other = malloc(sizeof *other);
    *other = place->image;
    make_sample(place, 8);
    memcpy(place->image.bytes[SHM], other->bytes[SHM], ROOM);
    free(other);
    judge(place, &place->image, 8, &result);
    assert_int_equal(result.state, WAL_WHOLE);
    assert_int_equal(result.known, 0);
    place->image.bytes[SHM][17]++; /* its sum is wrong now */
    place->image.bytes[SHM][48 + 17]++;
    judge(place, &place->image, 8, &result);
    assert_int_equal(result.known, 0);
}

static unsigned int chance(unsigned int *seed)
{
    *seed = *seed * 1103515245U + 12345U;
    return *seed >> 16;
}

/* Pieces of what was written since before are there or not, also those that made the file longer. */
static void tear(struct image *work, const struct image *before, const struct image *after,
                 unsigned int *seed)
{
    *work = *after;
    work->size[SHM] = 0;
    for (size_t at = 0; at < after->size[WAL]; at += PIECE) {
        if (chance(seed) % 4)
            continue;
        size_t n = after->size[WAL] - at < PIECE ? after->size[WAL] - at : PIECE;
        memset(work->bytes[WAL] + at, 0, n);
        if (before->size[WAL] > at)
            memcpy(work->bytes[WAL] + at, before->bytes[WAL] + at,
                   before->size[WAL] - at < n ? before->size[WAL] - at : n);
    }
    if (before->size[WAL] < after->size[WAL] && chance(seed) % 2)
        work->size[WAL] -= chance(seed) % (after->size[WAL] - before->size[WAL]);
}

/* from image->before, in which so many are committed, to image: one more. */
static void tear_often(struct place *place, int before, int committed)
{
    struct wal_scan result;
    unsigned int seed = (unsigned int)time(NULL), said = seed, whole = 0, torn = 0;
    for (int round = 0; round < 500; round++) {
        tear(&place->work, &place->before, &place->image, &seed);
        int found = judge(place, &place->work, before, &result);
        if (found < committed || result.state == WAL_DAMAGED)
            fail_msg("seed %u, round %d: %d of %d, state %d", said, round, found, committed, result.state);
        whole += found > committed;
        torn += result.state == WAL_TORN;
    }
    if (whole == 0 || torn == 0)
        fail_msg("seed %u: %u whole, %u torn", said, whole, torn);
}

static void a_power_cut_is_not_damage(void **state)
{
    struct place *place = *state;
    for (int again = 0; again <= 12; again += 12) {
        sqlite3 *db = new_store(place);
        for (int n = 1; n <= again; n++)
            commit(db, n, 2);
        if (again)
            sql(db, "PRAGMA wal_checkpoint");
        for (int n = again + 1; n <= again + 4; n++)
            commit(db, n, 1);
        take_files(place, &place->before);
        commit(db, again + 5, 4);
        take_files(place, &place->image);
        sqlite3_close(db);
        tear_often(place, again, again + 4);
    }
}

/* The first transaction of a -wal that begins anew: its header is synced before. */
static void a_power_cut_after_the_beginning_is_not_damage(void **state)
{
    struct place *place = *state;
    sqlite3 *db = new_store(place);
    for (int n = 1; n <= 6; n++)
        commit(db, n, 2);
    sql(db, "PRAGMA wal_checkpoint");
    take_files(place, &place->before);
    commit(db, 7, 4);
    take_files(place, &place->image);
    sqlite3_close(db);
    memcpy(place->before.bytes[WAL], place->image.bytes[WAL], 32);
    tear_often(place, 6, 6);
}

/* From these files, one more commit; its bytes go over those that are in the -wal. The files after it. */
static void go_on(struct place *place, struct image *image, int n, int frames)
{
    struct image *over = malloc(sizeof *over);
    *over = *image;
    put_files(place, image);
    sqlite3 *db = open_store(place);
    commit(db, n, frames);
    take_files(place, image);
    sqlite3_close(db);
    if (over->size[WAL] > image->size[WAL]) { /* SQLite has not cut what was there, but let that be our say */
        memcpy(image->bytes[WAL] + image->size[WAL], over->bytes[WAL] + image->size[WAL],
               over->size[WAL] - image->size[WAL]);
        image->size[WAL] = over->size[WAL];
    }
    free(over);
}

/* A commit of 9 frames whose sync failed, one of 6, one of 3 that is acknowledged, and one that is torn. */
static void what_a_failed_commit_leaves_is_not_damage(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    struct image *good = calloc(1, sizeof *good);
    sqlite3 *db = new_store(place);
    for (int n = 1; n <= 3; n++)
        commit(db, n, 1);
    take_files(place, good);
    sqlite3_close(db);

    good->size[SHM] = 0;
    place->before = *good;
    for (int frames = 9; frames >= 3; frames -= 3) {
        struct image *next = &place->image;
        *next = *good;
        go_on(place, next, 4, frames);
        /* what the one before has left behind it */
        if (place->before.size[WAL] > next->size[WAL]) {
            memcpy(next->bytes[WAL] + next->size[WAL], place->before.bytes[WAL] + next->size[WAL],
                   place->before.size[WAL] - next->size[WAL]);
            next->size[WAL] = place->before.size[WAL];
        }
        next->size[SHM] = 0;
        place->before = *next;
    }
    assert_int_equal(judge(place, &place->before, 0, &result), 4);
    assert_int_equal(result.state, WAL_TORN);
    assert_int_equal(result.dropped, 2);
    place->image = place->before;
    go_on(place, &place->image, 5, 2); /* over the rest of the one of 6 */
    tear_often(place, 0, 4);
    free(good);
}

/* In a transaction that is longer than the cache, frames go out before the commit; then the writer is killed.
 */
static void a_writer_that_was_killed_is_not_damage(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    sqlite3 *db = new_store(place);
    commit(db, 1, 1);
    sql(db, "PRAGMA cache_size=10; BEGIN");
    commit(db, 2, 100);
    take_files(place, &place->image);
    sql(db, "ROLLBACK");
    sqlite3_close(db);
    assert_in_range(place->image.size[WAL], 20 * FRAME, ROOM);
    assert_int_equal(judge(place, &place->image, 0, &result), 1);
    assert_int_equal(result.state, WAL_TORN);
    assert_int_equal(result.dropped, 0);
}

static uint32_t get_big(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void add_big(uint32_t sum[2], const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        sum[0] += get_big(p + i) + sum[1];
        sum[1] += get_big(p + i + 4) + sum[0];
    }
}

static void put_sum(uint8_t *p, const uint32_t sum[2])
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(sum[i / 4] >> (24 - 8 * (i % 4)));
}

/* As a machine of the other byte order sums it. */
static void one_of_the_other_byte_order(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    uint32_t sum[2] = {0, 0};
    make_sample(place, 0);
    place->work = place->image;
    place->work.size[SHM] = 0;
    uint8_t *wal = place->work.bytes[WAL];
    wal[3] |= 1;
    add_big(sum, wal, 24);
    put_sum(wal + 24, sum);
    for (size_t at = 32; at + FRAME <= place->work.size[WAL]; at += FRAME) {
        add_big(sum, wal + at, 8);
        add_big(sum, wal + at + 24, PAGE);
        put_sum(wal + at + 16, sum);
    }
    assert_int_equal(judge(place, &place->work, 0, &result), 7);
    assert_int_equal(result.state, WAL_WHOLE);
    wal[1]++;
    judge(place, &place->work, 0, &result);
    assert_int_equal(result.state, WAL_DAMAGED);
    assert_int_equal(result.dropped, 7);
}

static void it_says_what_is_wrong(void **state)
{
    struct place *place = *state;
    struct wal_scan result;
    char text[200], expected[200];
    make_sample(place, 0);
    place->work = place->image;
    place->work.size[SHM] = 0;
    place->work.bytes[WAL][32 + FRAME + 100]++;
    judge(place, &place->work, 0, &result);
    snprintf(expected, sizeof expected, "damaged at byte %d: 6 commits from there on would be lost",
             32 + FRAME);
    assert_string_equal(wal_describe(&result, text, sizeof text), expected);
    place->work.bytes[WAL][0]++;
    judge(place, &place->work, 0, &result);
    assert_string_equal(wal_describe(&result, text, sizeof text),
                        "damaged at byte 0: 6 commits from there on would be lost");
    place->work = place->image;
    place->work.size[WAL] = 32 + 2 * FRAME;
    judge(place, &place->work, 0, &result);
    snprintf(expected, sizeof expected, "damaged at byte %d: %d pages were committed, 2 can be read",
             32 + 2 * FRAME, (int)(place->image.size[WAL] - 32) / FRAME);
    assert_string_equal(wal_describe(&result, text, sizeof text), expected);
    place->work.size[WAL]--;
    place->work.size[SHM] = 0;
    judge(place, &place->work, 0, &result);
    snprintf(expected, sizeof expected,
             "its last transaction is not whole from byte %d on, as after a power cut", 32 + FRAME);
    assert_string_equal(wal_describe(&result, text, sizeof text), expected);
    memset(place->work.bytes[WAL], 'x', ROOM);
    judge(place, &place->work, 0, &result);
    assert_string_equal(wal_describe(&result, text, sizeof text),
                        "damaged at byte 0: what is behind it would be lost");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_there_and_nothing_wrong),
        cmocka_unit_test(what_cannot_be_read_is_said),
        cmocka_unit_test(every_byte_is_flipped),
        cmocka_unit_test(every_byte_over_older_frames_is_flipped),
        cmocka_unit_test(every_byte_is_flipped_and_the_shm_knows),
        cmocka_unit_test(it_is_cut_at_every_length),
        cmocka_unit_test(an_older_shm_says_nothing),
        cmocka_unit_test(a_power_cut_is_not_damage),
        cmocka_unit_test(a_power_cut_after_the_beginning_is_not_damage),
        cmocka_unit_test(what_a_failed_commit_leaves_is_not_damage),
        cmocka_unit_test(a_writer_that_was_killed_is_not_damage),
        cmocka_unit_test(one_of_the_other_byte_order),
        cmocka_unit_test(it_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
