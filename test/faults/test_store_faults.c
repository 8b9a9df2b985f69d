/*
 * test_store_faults.c - what a disk can do to the durable store: lose its power, be full, fail, rot.
 *
 * The adapter (store_sqlite) with its threads and a mailbox, no daemon. A script of batches is applied one by
 * one. What the store holds after each of them is known as text: as it was loaded when nothing was wrong.
 * Whatever happens, what is loaded afterwards must be the text after a batch that is not older than the last
 * one that was reported as committed, nor younger than the last one that was handed over.
 *
 * A short form runs samples. FAULTS=all runs every one; SEED=N the same samples again.
 */
#include "broker/log.h"
#include "broker/store_sqlite.h"
#include "broker/store_wal.h"
#include "test/faults/script.h"
#include "test/faults/shim_vfs.h"
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TRIES = 12, VICTIM = 8 /* batches in a file that is damaged */ };

static struct {
    char dir[64], path[96], copy[96], base[96]; /* base: a store with nothing in it */
    unsigned int seed;
    bool all;
    struct script small, large;
    /* the store that runs */
    struct mailbox *mailbox;
    int woken;       /* eventfd */
    size_t woken_at; /* in the log: when the answer was given */
    struct storage *storage;
    struct err err;
    enum storage_sync sync;
    bool ignores_errors; /* a planted defect: what has failed is taken for committed */
    int committed, failed;
    enum shim_fault fault; /* what is wrong with the disk */
    uint64_t next_number;
    /* where in the log each batch was handed over first, and was reported as committed; 0: not yet */
    size_t handed[BATCHES + 1], reported[BATCHES + 1];
    struct text *loaded;
    char doing[200]; /* for a crash */
} t;

static const char *const listeners[] = {"1883"};

/* ---- the store ---- */

static void wake(void *arg)
{
    uint64_t one = 1;
    (void)arg;
    t.woken_at = shim_position();
    if (write(t.woken, &one, sizeof one) != sizeof one)
        abort();
}

static void on_committed(void *arg, uint64_t batch)
{
    (void)arg, (void)batch;
    t.committed++;
}

static void on_failed(void *arg, uint64_t batch, enum storage_error error, const char *why)
{
    (void)arg, (void)batch;
    t.failed++;
    if (why[0] == 0 || shim_failed() == 0 || error != (t.fault == SHIM_ENOSPC ? STORAGE_FULL : STORAGE_ERROR))
        fail_msg("%s: failed with %d, %s", t.doing, error, why);
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    t.loaded->n += (size_t)vsnprintf(t.loaded->p + t.loaded->n, TEXT - t.loaded->n, format, ap);
    va_end(ap);
    assert_true(t.loaded->n < TEXT);
}

static void say_message(const struct stored_message *message)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < message->payload.n; i++)
        sum = sum * 1099511628211U + message->payload.p[i];
    say(" %.*s %zu %016llx qos %d retain %d by %s\n", SLICE_ARG(message->topic), message->payload.n,
        (unsigned long long)sum, message->qos, message->retain,
        message->origin.client_id ? message->origin.client_id : "-");
}

static int on_session(void *arg, uint64_t number, const char *client_id, const struct stored_origin *who)
{
    (void)arg;
    say("session %d %s by %s\n", (int)number, client_id, who->client_id);
    return 0;
}

static int on_subscription(void *arg, uint64_t session, struct slice filter, uint8_t qos, bool owing)
{
    (void)arg;
    say("subscription %d %.*s %d %d\n", (int)session, SLICE_ARG(filter), qos, owing);
    return 0;
}

static int on_inbound(void *arg, uint64_t session, uint16_t id)
{
    (void)arg;
    say("inbound %d %d\n", (int)session, id);
    return 0;
}

static int on_released(void *arg, uint64_t session, uint16_t id)
{
    (void)arg;
    say("released %d %d\n", (int)session, id);
    return 0;
}

static int on_retained(void *arg, const struct stored_message *message)
{
    (void)arg;
    say("retained");
    say_message(message);
    return 0;
}

static int on_delivery(void *arg, const struct stored_delivery *delivery)
{
    (void)arg;
    say("delivery %d to %d and %d, id %d qos %d:", (int)delivery->message->number, (int)delivery->session,
        (int)delivery->others, delivery->id, delivery->qos);
    say_message(delivery->message);
    return 0;
}

static int on_will(void *arg, const char *client_id, const struct stored_message *message)
{
    (void)arg;
    say("will of %s", client_id);
    say_message(message);
    return 0;
}

static const struct storage_reader reader = {.session = on_session,
                                             .subscription = on_subscription,
                                             .inbound = on_inbound,
                                             .released = on_released,
                                             .retained = on_retained,
                                             .delivery = on_delivery,
                                             .will = on_will};

static void close_store(void)
{
    storage_close(t.storage);
    t.storage = NULL;
}

/* Opens and loads into t.loaded. False: it was refused, t.err says why. */
static bool load_store(const char *path)
{
    const struct storage_options options = {
        .path = path, .sync = t.sync, .listeners = listeners, .listener_count = 1, .mailbox = t.mailbox};
    t.err.text[0] = 0;
    t.loaded->n = 0;
    t.loaded->p[0] = 0;
    t.storage = storage_open(&options, &t.err);
    if (!t.storage)
        return false;
    t.storage->events.committed = on_committed;
    t.storage->events.failed = on_failed;
    if (storage_load(t.storage, &reader, &t.loaded->last, NULL, NULL, &t.err) == 0)
        return true;
    close_store();
    return false;
}

static bool start_store(const char *path)
{
    if (!load_store(path))
        return false;
    if (storage_start(t.storage, &t.err))
        fail_msg("%s", t.err.text);
    return true;
}

/* Hands over batch i of the script once. True: it was reported as committed. */
static bool submit(const struct script *script, int i)
{
    struct pollfd pfd = {.fd = t.woken, .events = POLLIN};
    struct batch batch = script->batch[i];
    uint64_t n;
    int before = t.committed;
    batch.number = ++t.next_number;
    if (!t.handed[i])
        t.handed[i] = shim_position() + 1;
    t.storage->submit(t.storage, &batch);
    if (poll(&pfd, 1, 60000) != 1 || read(t.woken, &n, sizeof n) != sizeof n)
        fail_msg("%s: no answer within a minute", t.doing);
    mailbox_drain(t.mailbox);
    if (t.committed == before && !t.ignores_errors)
        return false;
    t.reported[i] = t.woken_at + 1;
    return true;
}

static void forget_run(void)
{
    memset(t.handed, 0, sizeof t.handed);
    memset(t.reported, 0, sizeof t.reported);
}

/* ---- files ---- */

static const char *const endings[] = {"", "-wal", "-shm", ".new"};

static void remove_store(const char *path)
{
    const struct bytes none = {0};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        bytes_write(path, endings[i], &none);
}

/* What a process that is killed now would leave. */
static void copy_store(const char *from, const char *to)
{
    for (size_t i = 0; i < 3; i++) {
        struct bytes bytes = bytes_read(from, endings[i]);
        bytes_write(to, endings[i], &bytes);
        free(bytes.p);
    }
}

/* A store without anything in it. */
static void new_store(const char *path)
{
    remove_store(path);
    if (!start_store(path))
        fail_msg("%s", t.err.text);
    close_store();
    forget_run();
}

/* ---- what must hold ---- */

static bool same_text(const struct text *x, const struct text *y)
{
    return x->n == y->n && memcmp(x->p, y->p, x->n) == 0;
}

/* Which batch was the last, of those from first to last; -1: what was loaded is nothing of that. */
static int which(const struct script *script, int first, int last)
{
    for (int i = last; i >= first; i--)
        if (same_text(t.loaded, script->after[i]))
            return i;
    return -1;
}

/* Loads the store: it must be there as after one of these batches. Which one, or -1 and why in t.err. */
static int check(const struct script *script, const char *path, int first, int last)
{
    struct wal_scan scan;
    char text[200];
    if (t.sync == STORAGE_SYNC_FULL && (wal_scan(path, &scan, &t.err) < 0 || scan.state == WAL_DAMAGED)) {
        err_set(&t.err, "a good -wal is taken for damaged: %s", wal_describe(&scan, text, sizeof text));
        return -1;
    }
    if (!load_store(path))
        return -1;
    close_store();
    int found = which(script, first, last);
    if (found < 0) {
        int other = which(script, 0, BATCHES);
        return err_set(&t.err, "batches %d to %d were committed or handed over, there is %d: %s", first, last,
                       other, other < 0 ? t.loaded->p : "");
    }
    if (t.loaded->last < script->numbers[first])
        return err_set(&t.err, "numbers would be given again: %llu after %llu",
                       (unsigned long long)t.loaded->last, (unsigned long long)script->numbers[first]);
    return found;
}

/* Each batch of the script committed on its own, nothing wrong. */
static void learn(struct script *script)
{
    new_store(t.path);
    for (int i = 0; i <= BATCHES; i++) {
        if (!start_store(t.path))
            fail_msg("%s", t.err.text);
        script->after[i] = malloc(sizeof *script->after[i]);
        *script->after[i] = *t.loaded;
        if (i < BATCHES)
            assert_true(submit(script, i + 1));
        close_store();
    }
}

enum { EVERY = 1 << 30 };

/* Whether this one of so many is tried, when so many are wanted. */
static bool sampled(size_t count, size_t wanted)
{
    return count <= wanted || (chance(&t.seed) << 8 | chance(&t.seed) % 256) % count < wanted;
}

/* ---- power cuts ---- */

/* The last one that was reported, or handed over, before that place of the log. */
static int last_before(const size_t *places, size_t position)
{
    int last = 0;
    for (int i = 1; i <= BATCHES; i++)
        if (places[i] && places[i] <= position + 1)
            last = i;
    return last;
}

static void run_script(const struct script *script)
{
    new_store(t.path);
    shim_watch(t.path);
    if (!start_store(t.path))
        fail_msg("%s", t.err.text);
    for (int i = 1; i <= BATCHES; i++)
        assert_true(submit(script, i));
    close_store();
}

/* Cuts there, checks, and goes on: what was not committed is handed over again. -1: t.err says why. */
static int cut_once(const struct script *script, size_t position)
{
    unsigned int seed = chance(&t.seed);
    int first = t.sync == STORAGE_SYNC_NORMAL ? 0 : last_before(t.reported, position);
    int last = last_before(t.handed, position);
    snprintf(t.doing, sizeof t.doing, "power cut before operation %zu (%s), seed %u", position,
             shim_operation(position), seed);
    shim_cut(position, seed, t.copy);
    int found = check(script, t.copy, first, last);
    if (found < 0 || found == BATCHES)
        return found;
    size_t handed = t.handed[found + 1], reported = t.reported[found + 1];
    bool went_on = start_store(t.copy) && submit(script, found + 1);
    t.handed[found + 1] = handed; /* of the run that is in the log */
    t.reported[found + 1] = reported;
    close_store();
    return went_on ? check(script, t.copy, found + 1, found + 1) : -1;
}

/* How many cuts showed something wrong, of those that were tried. */
static int cut_everywhere(const struct script *script, size_t wanted, bool may_be_wrong)
{
    size_t count = shim_position() + 1;
    int wrong = 0;
    for (size_t position = 0; position < count; position++) {
        if (!sampled(count, wanted))
            continue;
        bool bad = cut_once(script, position) < 0;
        if (bad && !may_be_wrong)
            fail_msg("%s: %s", t.doing, t.err.text);
        wrong += bad;
    }
    return wrong;
}

static void a_power_cut_takes_nothing_that_was_reported(void **state)
{
    (void)state;
    run_script(&t.small);
    for (int round = 0; round < (t.all ? 8 : 1); round++)
        cut_everywhere(&t.small, t.all ? EVERY : 150, false);
}

/* Far beyond the bound of the -wal: checkpoints are under way meanwhile. */
static void nor_while_the_wal_is_written_back(void **state)
{
    (void)state;
    run_script(&t.large);
    cut_everywhere(&t.large, t.all ? 500 : 30, false);
}

/* It is made under another name and renamed when it is whole: also for a power cut. */
static void a_new_store_is_whole_when_it_has_its_name(void **state)
{
    char made[sizeof t.path + 8];
    (void)state;
    snprintf(made, sizeof made, "%s.new", t.path);
    shim_watch(made);
    new_store(t.path);
    assert_true(shim_position() > 5);
    for (int round = 0; round < 30; round++) {
        shim_cut(shim_position(), chance(&t.seed), t.copy);
        if (check(&t.small, t.copy, 0, 0) < 0)
            fail_msg("%s", t.err.text);
    }
}

/* What persistence_sync normal says: the last ones may be gone, but those before are whole and in order. */
static void with_sync_normal_the_file_stays_whole(void **state)
{
    (void)state;
    t.sync = STORAGE_SYNC_NORMAL;
    run_script(&t.small);
    cut_everywhere(&t.small, t.all ? EVERY : 60, false);
    run_script(&t.large);
    cut_everywhere(&t.large, t.all ? 500 : 20, false);
    t.sync = STORAGE_SYNC_FULL;
}

/* An adapter that reports before the sync: this is what persistence_sync off is, so it is easily had. */
static void a_report_before_the_sync_is_found(void **state)
{
    (void)state;
    t.sync = STORAGE_SYNC_OFF;
    run_script(&t.small);
    int wrong = cut_everywhere(&t.small, 150, true);
    t.sync = STORAGE_SYNC_FULL;
    if (wrong == 0)
        fail_msg("seed: none of the cuts has shown it");
}

/* ---- errors ---- */

/* Until it is committed. After each failure: what a kill, or a power cut, would leave now. */
static int insist(const struct script *script, int i)
{
    for (int tries = 0; !submit(script, i); tries++) {
        if (tries == TRIES)
            return err_set(&t.err, "batch %d is not committed, long after the disk is good again", i);
        struct storage *running = t.storage;
        copy_store(t.path, t.copy);
        int found = check(script, t.copy, i - 1, i);
        if (found >= 0) {
            shim_cut(shim_position(), chance(&t.seed), t.copy);
            found = check(script, t.copy, i - 1, i);
        }
        t.storage = running;
        if (found < 0)
            return -1;
    }
    return 0;
}

/* The whole script while some operations fail; then all of it must be there. -1: t.err says why not. */
static int run_with_faults(const struct script *script, size_t position, size_t count, enum shim_fault fault)
{
    copy_store(t.base, t.path);
    forget_run();
    shim_watch(t.path);
    shim_fail(position, count, t.fault = fault);
    for (int tries = 0; !start_store(t.path); tries++)
        if (shim_failed() == 0 || tries == TRIES)
            return -1;
    int rc = 0;
    for (int i = 1; i <= BATCHES && rc == 0; i++)
        rc = insist(script, i);
    close_store();
    shim_fail(0, 0, fault);
    return rc ? -1 : check(script, t.path, BATCHES, BATCHES);
}

/* How many runs showed something wrong. */
static int fail_everywhere(const struct script *script, size_t wanted, size_t in_a_row, bool may_be_wrong)
{
    int wrong = 0;
    run_with_faults(script, 0, 0, SHIM_EIO);
    size_t count = shim_position();
    assert_true(count > 50);
    for (size_t position = 0; position < count; position++) {
        for (enum shim_fault fault = SHIM_EIO; fault < SHIM_FAULTS; fault++) {
            if (!sampled(2 * count, wanted))
                continue;
            snprintf(t.doing, sizeof t.doing, "%s at operation %zu and %zu more, seed %u",
                     fault == SHIM_EIO ? "EIO" : "ENOSPC", position, in_a_row - 1, t.seed);
            bool bad = run_with_faults(script, position, in_a_row, fault) < 0;
            if (bad && !may_be_wrong)
                fail_msg("%s (%s): %s", t.doing, shim_operation(position), t.err.text);
            wrong += bad;
        }
    }
    return wrong;
}

static void after_one_error_all_goes_on(void **state)
{
    (void)state;
    fail_everywhere(&t.small, t.all ? EVERY : 60, 1, false);
}

static void after_some_errors_all_goes_on(void **state)
{
    (void)state;
    fail_everywhere(&t.small, t.all ? EVERY : 60, 7, false);
}

static void an_error_that_is_ignored_is_found(void **state)
{
    (void)state;
    t.ignores_errors = true;
    int wrong = fail_everywhere(&t.small, 60, 1, true);
    t.ignores_errors = false;
    assert_true(wrong > 0);
}

/* ---- damage ---- */

/* The files of a store that was killed after all batches (or closed), and damage to one of them. */
struct victim {
    struct bytes files[2];
    int file;
    const struct script *script;
    int refused, kept, torn;
};

static void take_victim(struct victim *victim, const struct script *script, bool killed)
{
    copy_store(t.base, t.path);
    forget_run();
    if (!start_store(t.path))
        fail_msg("%s", t.err.text);
    for (int i = 1; i <= VICTIM; i++)
        assert_true(submit(script, i));
    if (killed)
        copy_store(t.path, t.copy);
    close_store();
    if (!killed)
        copy_store(t.path, t.copy);
    *victim = (struct victim){.script = script};
    for (int f = 0; f < 2; f++)
        victim->files[f] = bytes_read(t.copy, endings[f]);
    assert_int_equal(victim->files[1].n > 0, killed);
}

static void free_victim(struct victim *victim)
{
    for (int f = 0; f < 2; f++)
        free(victim->files[f].p);
}

static void put_victim(const struct victim *victim, const struct bytes *damaged)
{
    const struct bytes none = {0};
    for (int f = 0; f < 2; f++)
        bytes_write(t.copy, endings[f], f == victim->file ? damaged : &victim->files[f]);
    bytes_write(t.copy, "-shm", &none);
}

/* What was refused is still what it was. */
static void left_alone(const struct victim *victim, const struct bytes *damaged)
{
    for (int f = 0; f < 2; f++) {
        const struct bytes *was = f == victim->file ? damaged : &victim->files[f];
        struct bytes is = bytes_read(t.copy, endings[f]);
        if (is.n != was->n || (is.n > 0 && memcmp(is.p, was->p, is.n) != 0))
            fail_msg("%s: it was refused, but the %s was changed", t.doing, f ? "-wal" : "main file");
        free(is.p);
    }
}

/* Whole, refused with a reason, or (a -wal) without the last commit, which the scan has seen. */
static void judge_damage(struct victim *victim, const struct bytes *damaged)
{
    struct wal_scan scan;
    put_victim(victim, damaged);
    if (wal_scan(t.copy, &scan, &t.err) < 0)
        fail_msg("%s: %s", t.doing, t.err.text);
    if (!load_store(t.copy)) {
        if (strlen(t.err.text) < 20)
            fail_msg("%s: it was refused, but without a reason: '%s'", t.doing, t.err.text);
        left_alone(victim, damaged);
        victim->refused++;
        return;
    }
    close_store();
    int found = which(victim->script, 0, BATCHES);
    victim->kept += found == VICTIM;
    victim->torn += found == VICTIM - 1;
    if (found == VICTIM || (found == VICTIM - 1 && scan.state == WAL_TORN))
        return;
    fail_msg("%s: %d of %d batches are there, the scan says %d, and nobody said a word:\n%s", t.doing, found,
             VICTIM, scan.state, found < 0 ? t.loaded->p : "");
}

static void flip_bytes(struct victim *victim, size_t wanted)
{
    struct bytes *bytes = &victim->files[victim->file],
                 damaged = {.p = malloc(bytes->n), .n = bytes->n, .exists = true};
    memcpy(damaged.p, bytes->p, bytes->n);
    for (size_t at = 0; at < bytes->n; at++) {
        bool head = victim->file == 0 && at % 1024 < 8; /* of a page: how many rows, and where */
        if (!head && at >= 32 && !sampled(bytes->n, wanted))
            continue;
        uint8_t mask = (uint8_t)(chance(&t.seed) % 2 ? 1 + chance(&t.seed) % 255 : 1U << chance(&t.seed) % 8);
        snprintf(t.doing, sizeof t.doing, "byte %zu of %zu of the %s ^ %02x", at, bytes->n,
                 victim->file ? "-wal" : "main file", mask);
        damaged.p[at] ^= mask;
        judge_damage(victim, &damaged);
        damaged.p[at] ^= mask;
    }
    free(damaged.p);
}

/* A -wal that ends early cannot be told from one that was not written: what is there must be some whole
 * batches. */
static void cut_off(struct victim *victim, size_t wanted)
{
    struct bytes damaged = victim->files[victim->file];
    size_t all = damaged.n;
    for (size_t n = 0; n < all; n++) {
        if (!sampled(all, wanted))
            continue;
        damaged.n = n;
        snprintf(t.doing, sizeof t.doing, "the %s cut off at %zu of %zu", victim->file ? "-wal" : "main file",
                 n, all);
        if (victim->file == 0 && n > 0) {
            judge_damage(victim, &damaged);
            continue;
        }
        put_victim(victim, &damaged);
        bool loaded = load_store(t.copy);
        if (loaded)
            close_store();
        if (loaded && which(victim->script, 0, BATCHES) < 0)
            fail_msg("%s: what is there was never written:\n%s", t.doing, t.loaded->p);
    }
}

static void a_flipped_byte_of_the_file_is_never_served(void **state)
{
    struct victim victim;
    (void)state;
    take_victim(&victim, &t.small, false);
    flip_bytes(&victim, t.all ? EVERY : 200);
    assert_true(victim.refused > 0);
    cut_off(&victim, t.all ? EVERY : 40);
    free_victim(&victim);
}

static void a_flipped_byte_of_the_wal_loses_nothing_silently(void **state)
{
    struct victim victim;
    (void)state;
    take_victim(&victim, &t.small, true);
    victim.file = 1;
    flip_bytes(&victim, t.all ? EVERY : 200);
    assert_true(victim.refused > 0);
    cut_off(&victim, t.all ? EVERY : 60);
    victim.file = 0;
    flip_bytes(&victim, t.all ? EVERY : 60);
    free_victim(&victim);
}

/* ---- ---- */

static void crashed(int number)
{
    static const char text[] = "\ncrashed: ";
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
    n += write(STDERR_FILENO, t.doing, strlen(t.doing));
    n += write(STDERR_FILENO, "\n", 1);
    signal(number, SIG_DFL);
    raise(number);
    (void)n;
}

static int begin(void **state)
{
    const char *seed = getenv("SEED"), *faults = getenv("FAULTS");
    (void)state;
    t.seed = seed ? (unsigned int)strtoul(seed, NULL, 10) : (unsigned int)time(NULL);
    t.all = faults && strcmp(faults, "all") == 0;
    printf("SEED=%u%s\n", t.seed, t.all ? " FAULTS=all" : "");
    if (log_start(&(struct log_options){0}, &t.err) < 0) /* what the store says of its -wal is not for here */
        return -1;
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    snprintf(t.dir, sizeof t.dir, "/tmp/bramble-faults-XXXXXX");
    if (!mkdtemp(t.dir))
        return -1;
    snprintf(t.path, sizeof t.path, "%s/store", t.dir);
    snprintf(t.copy, sizeof t.copy, "%s/copy", t.dir);
    snprintf(t.base, sizeof t.base, "%s/empty", t.dir);
    t.woken = eventfd(0, EFD_CLOEXEC);
    t.mailbox = mailbox_new(wake, NULL);
    t.loaded = malloc(sizeof *t.loaded);
    shim_install();
    make_script(&t.small, 300, 3);
    make_script(&t.large, 60000, 9);
    new_store(t.base);
    learn(&t.small);
    learn(&t.large);
    return 0;
}

static int end(void **state)
{
    (void)state;
    remove_store(t.path);
    remove_store(t.copy);
    remove_store(t.base);
    rmdir(t.dir);
    free_script(&t.small);
    free_script(&t.large);
    free(t.loaded);
    shim_watch("");
    mailbox_free(t.mailbox);
    close(t.woken);
    log_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_takes_nothing_that_was_reported),
        cmocka_unit_test(nor_while_the_wal_is_written_back),
        cmocka_unit_test(a_new_store_is_whole_when_it_has_its_name),
        cmocka_unit_test(with_sync_normal_the_file_stays_whole),
        cmocka_unit_test(a_report_before_the_sync_is_found),
        cmocka_unit_test(after_one_error_all_goes_on),
        cmocka_unit_test(after_some_errors_all_goes_on),
        cmocka_unit_test(an_error_that_is_ignored_is_found),
        cmocka_unit_test(a_flipped_byte_of_the_file_is_never_served),
        cmocka_unit_test(a_flipped_byte_of_the_wal_loses_nothing_silently),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
