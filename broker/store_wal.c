/*
 * store_wal.c - the scan of a -wal (https://www.sqlite.org/walformat.html). See store_wal.h.
 *
 *   header  magic, version, page size, number, salt[2], sum[2]
 *   frame   page, size of the file after a commit (else 0), salt[2], sum[2]; then the page
 *
 * Each sum goes on from the one before, so it proves a frame and its predecessors. Behind a bad frame that
 * chain is broken, but two neighbours can still be held together: the sum of one, taken as it is written
 * there, leads to the sum of the next. Such frames were written one after the other: a run. The hard part is
 * what a run means. With every commit synced before the next transaction begins,
 *
 *   - a power cut leaves frames of one transaction in any state: at most one commit is seen in it;
 *   - a commit whose sync failed is written over by the next transaction, and what sticks out behind that
 *     has the salts of today. It is a run of its own, with at most one commit at its end;
 *   - frames from before the -wal began anew have other salts, and are in the file already.
 *
 * So two commits in one run, or more than three in all, were synced once, and something has damaged what is
 * before them. Damage that hits nothing but the last transaction looks like a power cut; so does a file that
 * was cut short. There the -shm may tell: it says how many frames were committed, and only says so after the
 * sync.
 */
#include "broker/store_wal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER = 32,
    FRAME_HEADER = 24,
    MIN_PAGE = 512,
    MAX_PAGE = 65536,
    VERSION = 3007000,
    SHM_HEADER = 48,
};
static const uint32_t magic = 0x377f0682; /* and the same + 1: sums over big-endian words */

struct sum {
    uint32_t a, b;
};

/* The sum of a frame (or the header): as it is written, and as it should be. They differ when it is bad. */
struct sums {
    struct sum written, computed;
};

/* A -wal that is being read, frame by frame. */
struct wal {
    const char *path;
    FILE *file;
    uint64_t size;
    uint32_t page_size;
    bool big_endian;
    uint8_t header[HEADER];
    uint8_t frame[FRAME_HEADER + MAX_PAGE];
};

/* What was seen behind the first bad frame. */
struct rest {
    uint64_t commits, most_in_run; /* of frames with the salts of today, or that are tied to such */
    uint64_t in_run, in_doubt;     /* in_doubt: salts of another day, so far */
    bool seen, tied;               /* any frame of today; any two */
    bool proven;                   /* no tie is missing up to here: of today whatever the salts say */
};

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t get32_little(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static struct sum sum_written(const uint8_t *p)
{
    return (struct sum){get32(p), get32(p + 4)};
}

static bool same(struct sum x, struct sum y)
{
    return x.a == y.a && x.b == y.b;
}

static struct sum sum_on(struct sum sum, const uint8_t *p, size_t bytes, bool big_endian)
{
    for (const uint8_t *end = p + bytes; p < end; p += 8) {
        sum.a += (big_endian ? get32(p) : get32_little(p)) + sum.b;
        sum.b += (big_endian ? get32(p + 4) : get32_little(p + 4)) + sum.a;
    }
    return sum;
}

static struct sum frame_sum(const struct wal *wal, struct sum before)
{
    struct sum sum = sum_on(before, wal->frame, 8, wal->big_endian);
    return sum_on(sum, wal->frame + FRAME_HEADER, wal->page_size, wal->big_endian);
}

static uint64_t frame_count(const struct wal *wal)
{
    return wal->size < HEADER ? 0 : (wal->size - HEADER) / (FRAME_HEADER + wal->page_size);
}

static bool is_commit(const struct wal *wal)
{
    return get32(wal->frame + 4) != 0;
}

static bool has_salts_of_today(const struct wal *wal)
{
    return memcmp(wal->frame + 8, wal->header + 16, 8) == 0;
}

static bool page_size_valid(uint32_t n)
{
    return n >= MIN_PAGE && n <= MAX_PAGE && (n & (n - 1)) == 0;
}

/* ---- reading ---- */

static int read_at(struct wal *wal, uint64_t place, void *to, size_t bytes, struct err *err)
{
    if (fseeko(wal->file, (off_t)place, SEEK_SET) < 0 || fread(to, bytes, 1, wal->file) != 1) {
        return err_set(err, "%s-wal: %s", err_path(wal->path), errno ? strerror(errno) : "it ends too early");
    }
    return 0;
}

static int read_frame(struct wal *wal, uint64_t number, struct err *err)
{
    uint64_t stride = FRAME_HEADER + wal->page_size;
    return read_at(wal, HEADER + number * stride, wal->frame, (size_t)stride, err);
}

/* The path of what is beside the store; the caller frees it. */
static char *beside(const char *store, const char *ending)
{
    char *path = NULL;
    return asprintf(&path, "%s%s", store, ending) < 0 ? NULL : path;
}

/* 1: open; 0: there is none; -1: it cannot be opened. */
static int open_beside(const char *store, const char *ending, FILE **file, uint64_t *size, struct err *err)
{
    struct stat st;
    char *path = beside(store, ending);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    int error = errno;
    free(path);
    if (fd < 0) {
        return path && error == ENOENT ? 0
                                       : err_set(err, "%s%s: %s", err_path(store), ending, strerror(error));
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(*file = fdopen(fd, "r"))) {
        close(fd);
        return err_set(err, "%s%s: it is not a file that can be read", err_path(store), ending);
    }
    *size = (uint64_t)st.st_size;
    return 1;
}

/* ---- behind the first bad frame ---- */

/* tied: it was written right after the frame before it. */
static void look_behind(const struct wal *wal, struct rest *rest, bool tied)
{
    if (!tied) {
        rest->in_run = rest->in_doubt = 0;
        rest->proven = false;
    }
    rest->in_doubt += is_commit(wal);
    if (!has_salts_of_today(wal) && !rest->proven) {
        return; /* an old one, unless one of today is tied to it */
    }
    rest->seen = true;
    rest->tied |= tied;
    rest->commits += rest->in_doubt;
    rest->in_run += rest->in_doubt;
    rest->in_doubt = 0;
    if (rest->most_in_run < rest->in_run) {
        rest->most_in_run = rest->in_run;
    }
}

/* Looks at all frames from that one on; last: sums of the one before. */
static int scan_rest(struct wal *wal, uint64_t from, struct sums last, struct rest *rest, struct err *err)
{
    for (uint64_t n = from, count = frame_count(wal); n < count; n++) {
        if (read_frame(wal, n, err) < 0) {
            return -1;
        }
        struct sums next = {sum_written(wal->frame + 16), frame_sum(wal, last.written)};
        bool tied = same(next.written, next.computed);
        if (!tied && !same(last.written, last.computed)) {
            struct sum other = frame_sum(wal, last.computed); /* was only the sum before it bad? */
            tied = same(next.written, other);
            next.computed = tied ? other : next.computed;
        }
        look_behind(wal, rest, tied);
        last = next;
    }
    return 0;
}

/* ---- the whole ---- */

static struct sums header_sums(const struct wal *wal)
{
    return (struct sums){sum_written(wal->header + 24),
                         sum_on((struct sum){0, 0}, wal->header, 24, wal->big_endian)};
}

static bool header_valid(struct wal *wal)
{
    wal->big_endian = get32(wal->header) & 1;
    wal->page_size = get32(wal->header + 8);
    struct sums sums = header_sums(wal);
    return (get32(wal->header) & ~1U) == magic && get32(wal->header + 4) == VERSION &&
           page_size_valid(wal->page_size) && same(sums.written, sums.computed);
}

/* What is behind the last whole frame is the beginning of one, when it has the salts. */
static int look_at_piece(struct wal *wal, struct rest *rest, struct err *err)
{
    uint64_t end = HEADER + frame_count(wal) * (FRAME_HEADER + wal->page_size);
    if (wal->size - end < FRAME_HEADER) {
        return 0;
    }
    if (read_at(wal, end, wal->frame, FRAME_HEADER, err) < 0) {
        return -1;
    }
    rest->seen |= has_salts_of_today(wal);
    return 0;
}

/* Frame after frame as SQLite reads them. sums: of the last one that is right. Returns how many are, or -1.
 */
static int64_t scan_good(struct wal *wal, struct wal_scan *scan, struct sums *sums, struct err *err)
{
    uint64_t n = 0, count = frame_count(wal);
    for (*sums = header_sums(wal); n < count; n++) {
        if (read_frame(wal, n, err) < 0) {
            return -1;
        }
        struct sum sum = frame_sum(wal, sums->written);
        if (!has_salts_of_today(wal) || get32(wal->frame) == 0 || !same(sum, sum_written(wal->frame + 16))) {
            break;
        }
        *sums = (struct sums){sum, sum};
        if (is_commit(wal)) {
            scan->frames = n + 1;
            scan->commits++;
        }
    }
    return (int64_t)n;
}

static int scan_frames(struct wal *wal, struct wal_scan *scan, struct err *err)
{
    struct rest rest = {.proven = true};
    struct sums sums;
    int64_t good = scan_good(wal, scan, &sums, err);
    if (good < 0 || scan_rest(wal, (uint64_t)good, sums, &rest, err) < 0 ||
        look_at_piece(wal, &rest, err) < 0) {
        return -1;
    }
    scan->page_size = wal->page_size;
    scan->bad_at = HEADER + (uint64_t)good * (FRAME_HEADER + wal->page_size);
    scan->dropped = rest.commits;
    bool torn = rest.seen || (uint64_t)good > scan->frames;
    scan->state = rest.most_in_run > 1 || rest.commits > 3 ? WAL_DAMAGED
                  : torn                                   ? WAL_TORN
                  : scan->commits > 0                      ? WAL_WHOLE
                                                           : WAL_NONE;
    return 0;
}

static int is_all_zero(struct wal *wal, bool *zero, struct err *err)
{
    *zero = true;
    for (uint64_t place = 0; place < wal->size && *zero;) {
        size_t n = wal->size - place < MAX_PAGE ? (size_t)(wal->size - place) : MAX_PAGE;
        if (read_at(wal, place, wal->frame, n, err) < 0) {
            return -1;
        }
        for (size_t i = 0; i < n; i++) {
            *zero &= wal->frame[i] == 0;
        }
        place += n;
    }
    return 0;
}

/* As if this were the size of the pages and the order of the bytes. What the first frame has are the salts of
 * today. */
static int scan_as(struct wal *wal, uint32_t page_size, bool big_endian, struct rest *rest, struct err *err)
{
    wal->page_size = page_size;
    wal->big_endian = big_endian;
    if (frame_count(wal) == 0) {
        return 0;
    }
    if (read_frame(wal, 0, err) < 0) {
        return -1;
    }
    memcpy(wal->header + 16, wal->frame + 8, 8);
    return scan_rest(wal, 0, header_sums(wal), rest, err);
}

/* The header is bad, so SQLite will read nothing. It is synced before the first frame is written: if there is
 * anything behind it, that was committed. */
static int scan_headless(struct wal *wal, struct wal_scan *scan, struct err *err)
{
    bool zero;
    uint8_t header[HEADER];
    if (is_all_zero(wal, &zero, err) < 0) {
        return -1;
    }
    scan->state = zero || wal->size <= HEADER ? WAL_NONE : WAL_DAMAGED;
    memcpy(header, wal->header, HEADER);
    for (uint32_t size = MIN_PAGE; size <= MAX_PAGE && scan->state == WAL_DAMAGED; size *= 2) {
        for (int big = 0; big < 2; big++) {
            struct rest rest = {0};
            memcpy(wal->header, header, HEADER);
            if (scan_as(wal, size, big, &rest, err) < 0) {
                return -1;
            }
            if (rest.tied && scan->dropped < rest.most_in_run) {
                scan->dropped = rest.most_in_run;
                scan->page_size = size;
            }
        }
    }
    return 0;
}

/* ---- what the -shm knows ---- */

/* A header of the index that SQLite keeps of the -wal (there are two of it), in the byte order of the
 * machine. */
struct index_header {
    uint32_t version, unused, change;
    uint8_t is_init, big_endian;
    uint16_t page_size;
    uint32_t frames, pages;
    struct sum frame_sum;
    uint8_t salts[8]; /* as in the -wal */
    struct sum sum;
};
_Static_assert(sizeof(struct index_header) == SHM_HEADER, "no holes");

static bool index_valid(const struct index_header *index)
{
    uint16_t one = 1;
    bool big_endian = *(const uint8_t *)&one == 0;
    struct sum sum =
        sum_on((struct sum){0, 0}, (const uint8_t *)index, offsetof(struct index_header, sum), big_endian);
    return index->version == VERSION && index->is_init && same(sum, index->sum);
}

/* One that does not fit, or that is not there, says nothing: a power cut may leave an older one. */
static uint64_t frames_known(const struct wal *wal)
{
    struct index_header index[2];
    FILE *file = NULL;
    uint64_t size, frames = 0;
    if (open_beside(wal->path, "-shm", &file, &size, NULL) > 0) {
        size_t count = fread(index, sizeof *index, 2, file);
        for (size_t i = 0; i < count; i++) {
            if (index_valid(&index[i]) && memcmp(index[i].salts, wal->header + 16, 8) == 0 &&
                index[i].frames > frames) {
                frames = index[i].frames;
            }
        }
        fclose(file);
    }
    return frames;
}

static int scan_open(struct wal *wal, struct wal_scan *scan, struct err *err)
{
    if (wal->size < HEADER) {
        return 0;
    }
    if (read_at(wal, 0, wal->header, HEADER, err) < 0) {
        return -1;
    }
    if (!header_valid(wal)) {
        return scan_headless(wal, scan, err);
    }
    scan->known = frames_known(wal);
    if (scan_frames(wal, scan, err) < 0) {
        return -1;
    }
    if (scan->known > scan->frames) {
        scan->state = WAL_DAMAGED;
    }
    return 0;
}

int wal_scan(const char *store, struct wal_scan *scan, struct err *err)
{
    *scan = (struct wal_scan){.state = WAL_NONE};
    struct wal *wal = calloc(1, sizeof *wal);
    if (!wal) {
        return err_set(err, "%s-wal: out of memory", err_path(store));
    }
    wal->path = store;
    int status = open_beside(store, "-wal", &wal->file, &wal->size, err);
    if (status > 0) {
        status = scan_open(wal, scan, err);
        fclose(wal->file);
    }
    free(wal);
    return status;
}

const char *wal_describe(const struct wal_scan *scan, char *text, size_t size)
{
    unsigned long long at = scan->bad_at, dropped = scan->dropped, frames = scan->frames, known = scan->known;
    if (scan->state == WAL_TORN) {
        snprintf(text, size, "its last transaction is not whole from byte %llu on, as after a power cut", at);
    } else if (scan->state != WAL_DAMAGED) {
        snprintf(text, size, "nothing is wrong with it");
    } else if (known > frames) {
        snprintf(text, size, "damaged at byte %llu: %llu pages were committed, %llu can be read", at, known,
                 frames);
    } else if (dropped > 0) {
        snprintf(text, size, "damaged at byte %llu: %llu commits from there on would be lost", at, dropped);
    } else {
        snprintf(text, size, "damaged at byte %llu: what is behind it would be lost", at);
    }
    return text;
}
