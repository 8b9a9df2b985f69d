/*
 * test_log.c - lines arrive whole, in their form, at every sink; and whatever a sink does, log_write() does
 * not wait.
 *
 * A destination that nobody reads is a FIFO, or a pipe in place of stderr, of which the test holds both ends.
 * Should log_write() wait for it, the test hangs, and the alarm ends it.
 */
#include "broker/clock.h"
#include "broker/log.h"
#include "broker/log_ring.h"
#include "broker/log_sink.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    char dir[64];
    char file[80], fifo[80];
    int saved_stderr;
    int reader; /* what stands behind stderr */
    uint64_t lost_before;
    char text[4 * 1024 * 1024]; /* what was read */
} f;

static int setup(void **unused)
{
    (void)unused;
    strcpy(f.dir, "/tmp/test_log.XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.file, sizeof f.file, "%s/log", f.dir);
    snprintf(f.fifo, sizeof f.fifo, "%s/fifo", f.dir);
    f.saved_stderr = -1;
    f.lost_before = log_lost();
    return 0;
}

static void stderr_back(void)
{
    if (f.saved_stderr < 0)
        return;
    dup2(f.saved_stderr, STDERR_FILENO);
    close(f.saved_stderr);
    f.saved_stderr = -1;
}

static int teardown(void **unused)
{
    char old[100];

    (void)unused;
    log_stop();
    stderr_back();
    log_on_topic(NULL, NULL);
    snprintf(old, sizeof old, "%s.old", f.file);
    unlink(f.file);
    unlink(f.fifo);
    unlink(old);
    return rmdir(f.dir);
}

/* Stderr becomes `fd` (which is closed). */
static void stderr_to(int fd)
{
    f.saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

static void stderr_to_pipe(void)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    f.reader = ends[0];
    stderr_to(ends[1]);
}

static const char *read_all(int fd)
{
    size_t used = 0;
    ssize_t n;

    while ((n = read(fd, f.text + used, sizeof f.text - 1 - used)) > 0)
        used += (size_t)n;
    f.text[used] = 0;
    close(fd);
    return f.text;
}

/* All that came to the pipe; ends the redirection. */
static const char *read_stderr(void)
{
    stderr_back();
    return read_all(f.reader);
}

static const char *read_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return read_all(fd);
}

static struct log_options options_for(unsigned dests)
{
    return (struct log_options){.dests = dests, .types = LOG_T_DEFAULT, .file = f.file};
}

static void start(const struct log_options *options)
{
    struct err err = {""};

    if (log_start(options, &err) != 0)
        fail_msg("log_start: %s", err.text);
}

static void start_dests(unsigned dests)
{
    struct log_options options = options_for(dests);

    start(&options);
}

static int count_of(const char *text, const char *what)
{
    int count = 0;

    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        count++;
    return count;
}

/* The sum of the N of all lines "N log lines lost". */
static long reported_lost(const char *text)
{
    long sum = 0;

    for (const char *at = strstr(text, " log lines lost"); at; at = strstr(at + 1, " log lines lost")) {
        const char *from = at;
        while (from > text && from[-1] >= '0' && from[-1] <= '9')
            from--;
        sum += strtol(from, NULL, 10);
    }
    return sum;
}

/* --- the form of a line --- */

static void before_the_start_lines_go_to_stderr(void **unused)
{
    char expected[64];
    long long before = (long long)time(NULL);
    const char *text;

    (void)unused;
    stderr_to_pipe();
    log_write(LOG_T_ERROR, "no %s", "listener");
    log_write(LOG_T_DEBUG, "not by default");
    text = read_stderr();
    assert_true(strtoll(text, NULL, 10) >= before);
    snprintf(expected, sizeof expected, "%lld: no listener\n", strtoll(text, NULL, 10));
    assert_string_equal(text, expected);
    assert_true(log_wants(LOG_T_ERROR));
    assert_false(log_wants(LOG_T_DEBUG));
}

static void a_file_gets_the_seconds_and_the_text(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE);
    char expected[100];
    long long sec;
    struct stat st;

    (void)unused;
    options.timestamp = true;
    start(&options);
    log_write(LOG_T_NOTICE, "one %d", 1);
    log_write(LOG_T_INFO, "two");
    log_stop();
    sec = strtoll(read_file(f.file), NULL, 10);
    assert_true(sec > 1500000000);
    snprintf(expected, sizeof expected, "%lld: one 1\n", sec);
    assert_memory_equal(f.text, expected, strlen(expected));
    assert_non_null(strstr(f.text, ": two\n"));
    assert_int_equal(stat(f.file, &st), 0);
    assert_int_equal(st.st_mode & 07, 0); /* not for everybody */
}

static void the_timestamp_has_the_format_that_was_asked_for(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE);

    (void)unused;
    options.timestamp = true;
    options.timestamp_format = "%Y and no more";
    start(&options);
    log_write(LOG_T_INFO, "line");
    log_stop();
    assert_string_equal(read_file(f.file) + 4, " and no more: line\n");
}

static void without_timestamps_there_is_the_text_only(void **unused)
{
    (void)unused;
    start_dests(LOG_D_FILE);
    log_write(LOG_T_INFO, "line");
    log_stop();
    assert_string_equal(read_file(f.file), "line\n");
}

static void the_journal_gets_priorities_and_no_timestamps(void **unused)
{
    struct log_options options = options_for(LOG_D_STDERR);
    struct stat st;
    char stream[64];

    (void)unused;
    options.timestamp = true;
    options.types = LOG_T_ALL;
    stderr_to_pipe();
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_write(LOG_T_ERROR, "directly");
    start(&options);
    log_write(LOG_T_ERROR, "error");
    log_write(LOG_T_WARNING, "warning");
    log_write(LOG_T_SUBSCRIBE, "subscribe");
    log_write(LOG_T_INFO, "info");
    log_write(LOG_T_INTERNAL, "internal");
    log_stop();
    unsetenv("JOURNAL_STREAM");
    assert_string_equal(read_stderr(),
                        "<3>directly\n<3>error\n<4>warning\n<5>subscribe\n<6>info\n<7>internal\n");
}

/* The variable is inherited by everything a service starts; only the stream it names is the journal. */
static void another_stream_than_the_journals_is_none(void **unused)
{
    (void)unused;
    stderr_to_pipe();
    setenv("JOURNAL_STREAM", "1:1", 1);
    start_dests(LOG_D_STDERR);
    log_write(LOG_T_ERROR, "error");
    log_stop();
    unsetenv("JOURNAL_STREAM");
    assert_string_equal(read_stderr(), "error\n");
}

static const char *escaped(const char *text, size_t size)
{
    static char out[64];
    size_t n = log_escape(out, size, text, strlen(text), false);

    assert_int_equal(strlen(out), n);
    assert_true(n < size);
    return out;
}

static void strangers_text_cannot_leave_its_line(void **unused)
{
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"a\nb\r\tc", "a\\x0ab\\x0d\\x09c"},
        {"\x1b[2J\x7f", "\\x1b[2J\\x7f"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2\x9b"
         "1m",
         "\\xc2\\x9b"
         "1m"}, /* CSI in one character */
        {"\xe2\x80\xae"
         "x",
         "\\xe2\\x80\\xae"
         "x"},                                        /* right-to-left override */
        {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},          /* line separator */
        {"\xff\xc3", "\\xff\\xc3"},                   /* no UTF-8; cut off */
        {"\xc0\x8a", "\\xc0\\x8a"},                   /* a newline written too long */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* half a surrogate pair */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond Unicode */
        {"\x80z", "\\x80z"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(escaped(cases[i][0], 64), cases[i][1]);
    start_dests(LOG_D_FILE);
    log_write(LOG_T_INFO, "client %s", "x\n1: forged");
    log_stop();
    assert_string_equal(read_file(f.file), "client x\\x0a1: forged\n");
}

static void what_is_too_long_ends_in_dots(void **unused)
{
    static char longest[2 * LOG_LINE_MAX + 1];

    (void)unused;
    assert_string_equal(escaped("0123456", 8), "0123456");
    assert_string_equal(escaped("01234567", 8), "0123...");
    assert_string_equal(escaped("0123\n", 8), "0123...");
    assert_string_equal(escaped("\n\n", 8), "\\x0a...");
    memset(longest, 'a', sizeof longest - 1);
    start_dests(LOG_D_FILE);
    log_write(LOG_T_INFO, "%s", longest);
    log_stop();
    read_file(f.file);
    assert_int_equal(strlen(f.text), LOG_LINE_MAX); /* its zero has become the newline */
    assert_string_equal(f.text + LOG_LINE_MAX - 5, "a...\n");
}

/* --- the access log --- */

static struct log_options access_options(unsigned dests, const char *path)
{
    struct log_options options = options_for(dests);
    options.access_file = path;
    return options;
}

static void access_lines_have_sinks_of_their_own(void **unused)
{
    struct log_options options = access_options(LOG_D_STDERR | LOG_D_ACCESS_FILE, f.file);

    (void)unused;
    stderr_to_pipe();
    options.timestamp = true;
    start(&options);
    log_write(LOG_T_ERROR, "for people");
    assert_true(log_access("{\"a\":1}", 7));
    log_stop();
    assert_string_equal(read_file(f.file), "{\"a\":1}\n");
    assert_non_null(strstr(read_stderr(), ": for people\n"));
    assert_null(strstr(f.text, "{"));
    assert_false(log_access("{}", 2)); /* nobody writes it any more */
}

static void without_a_log_there_may_be_an_access_log(void **unused)
{
    struct log_options options = access_options(LOG_D_ACCESS_FILE | LOG_D_ACCESS_SYSLOG, f.file);

    (void)unused;
    stderr_to_pipe();
    start(&options);
    assert_false(log_wants(LOG_T_ERROR));
    log_write(LOG_T_ERROR, "nobody wants it");
    assert_true(log_access("{}", 2));
    log_stop();
    assert_string_equal(read_file(f.file), "{}\n");
    assert_string_equal(read_stderr(), "");
}

static void expect_refused(const struct log_options *options, const char *why)
{
    struct err err = {""};

    assert_int_equal(log_start(options, &err), -1);
    if (!strstr(err.text, why))
        fail_msg("'%s' is not in '%s'", why, err.text);
}

static void it_says_which_file_cannot_be_opened(void **unused)
{
    struct log_options options = access_options(LOG_D_FILE | LOG_D_ACCESS_FILE, "/nowhere/at/all");
    enum log_dest failed = 0;

    (void)unused;
    options.failed = &failed;
    expect_refused(&options, "/nowhere/at/all: No such file");
    assert_int_equal(failed, LOG_D_ACCESS_FILE);
    options.access_file = NULL;
    expect_refused(&options, "access_log_file without a file name");
    options.file = "/nowhere/either";
    expect_refused(&options, "/nowhere/either: No such file");
    assert_int_equal(failed, LOG_D_FILE);
}

static void an_access_log_on_a_full_disk_is_told_to_the_log(void **unused)
{
    struct log_options options = access_options(LOG_D_STDERR | LOG_D_ACCESS_FILE, "/dev/full");

    (void)unused;
    stderr_to_pipe();
    start(&options);
    log_access("{}", 2);
    while (log_lost() == f.lost_before)
        usleep(1000);
    log_write(LOG_T_INFO, "goes on");
    log_stop();
    assert_string_equal(
        read_stderr(),
        "Cannot write the log to /dev/full: No space left on device; its lines are lost\ngoes on\n");
}

/* What an access log misses is said in its own form, and the log's losses are none of its. */
static void an_access_log_says_what_it_missed_in_json(void **unused)
{
    struct log_options options = access_options(LOG_D_ACCESS_FILE, f.file);
    struct err err = {""};
    const struct log_wait wait = {NULL, NULL};
    struct log_setup *setup = log_setup_new(&options, &err);
    const char *said;

    (void)unused;
    assert_non_null(setup);
    log_setup_flush(setup, 5, &wait);
    setup->sinks[0].missing = 3;
    log_setup_flush(setup, 5, &wait);
    log_setup_free(setup);
    said = read_file(f.file);
    assert_int_equal(strncmp(said, "{\"time\":\"2", 10), 0);
    assert_non_null(strstr(said, "Z\",\"event\":\"lost\",\"count\":3}\n"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1); /* one line */
}

/* However many they are, there is room for those of the log. */
static void access_lines_fill_half_of_the_ring(void **unused)
{
    static struct log_ring ring;
    static char text[LOG_ACCESS_MAX];
    const struct log_line access = {.type = LOG_T_ACCESS, .text = text, .len = sizeof text};
    const struct log_line line = {.type = LOG_T_INFO, .text = text, .len = LOG_LINE_MAX};
    int lines = 0;

    (void)unused;
    ring.head = ring.tail = 0;
    while (log_ring_push(&ring, &access))
        lines++;
    assert_in_range(ring.head, LOG_RING_SIZE / 2 - sizeof text - 16, LOG_RING_SIZE / 2);
    assert_in_range(lines, 30, 40);
    assert_true(log_ring_push(&ring, &line));
}

static const char *json(const char *text, size_t n, size_t size, bool *cut)
{
    static char out[64];
    size_t length = log_escape_json(out, size, text, n, cut);

    assert_true(length < size);
    assert_int_equal(strlen(out), length);
    return out;
}

static void any_text_becomes_the_inside_of_a_json_string(void **unused)
{
    static const char *const cases[][2] = {
        {"plain/topic", "plain/topic"},
        {"a\"b\\c", "a\\\"b\\\\c"},
        {"\n\t\x01\x7f", "\\u000a\\u0009\\u0001\\u007f"},
        {"\xe2\x80\xa8\xe2\x80\xae\xc2\x9b", "\\u2028\\u202e\\u009b"},
        {"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"},
        {"\xff\xc3(", "\\ufffd\\ufffd("},
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},
    };
    bool cut = false;

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(json(cases[i][0], strlen(cases[i][0]), 64, &cut), cases[i][1]);
    assert_string_equal(json("\0x", 2, 64, &cut), "\\u0000x");
    assert_string_equal(json("1234567", 7, 8, &cut), "1234567");
    assert_false(cut);
    assert_string_equal(json("12345678", 8, 8, &cut), "1234567");
    assert_true(cut);
    cut = false;
    assert_string_equal(json("123\n", 4, 8, &cut), "123"); /* no half of an escape */
    assert_true(cut);
    assert_string_equal(json("12345\xe2\x82\xac", 8, 8, &cut), "12345"); /* nor of a character */
}

static void times_are_those_of_rfc_3339(void **unused)
{
    char out[LOG_TIME_SIZE];

    (void)unused;
    log_time_utc(out, 0);
    assert_string_equal(out, "1970-01-01T00:00:00.000Z");
    log_time_utc(out, 1769904000007);
    assert_string_equal(out, "2026-02-01T00:00:00.007Z");
}

/* --- options --- */

static void types_that_are_not_wanted_go_nowhere(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE);

    (void)unused;
    options.types = LOG_T_DEBUG | LOG_T_ERROR;
    start(&options);
    assert_true(log_wants(LOG_T_DEBUG));
    assert_false(log_wants(LOG_T_INFO));
    log_write(LOG_T_INFO, "info");
    log_write(LOG_T_DEBUG, "debug");
    log_stop();
    assert_string_equal(read_file(f.file), "debug\n");
}

static void without_destinations_nothing_is_wanted(void **unused)
{
    (void)unused;
    stderr_to_pipe();
    start_dests(0);
    assert_false(log_wants(LOG_T_ERROR));
    log_write(LOG_T_ERROR, "nobody listens");
    log_stop();
    assert_string_equal(read_stderr(), "");
}

static void bad_options_are_refused_with_a_reason(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE);
    char format[LOG_STAMP_MAX + 1];

    (void)unused;
    options.file = "/nowhere/at/all";
    expect_refused(&options, "/nowhere/at/all: No such file");
    options.file = f.dir;
    expect_refused(&options, "Is a directory");
    options.file = NULL;
    expect_refused(&options, "without a file name");
    options = options_for(LOG_D_SYSLOG);
    options.facility = "local8";
    expect_refused(&options, "local8");
    memset(format, 'x', sizeof format - 1);
    format[sizeof format - 1] = 0;
    options = options_for(LOG_D_FILE);
    options.timestamp_format = format;
    expect_refused(&options, "log_timestamp_format");
    options = options_for(LOG_D_FILE);
    start(&options);
    expect_refused(&options, "already");
}

static void syslog_without_a_syslogd_harms_nobody(void **unused)
{
    struct log_options options = options_for(LOG_D_SYSLOG | LOG_D_FILE);

    (void)unused;
    options.facility = "7";
    start(&options);
    log_write(LOG_T_INFO, "100%% of it");
    log_stop();
    assert_string_equal(read_file(f.file), "100% of it\n");
}

/* --- opening again --- */

static void rename_log(void)
{
    char old[100];

    snprintf(old, sizeof old, "%s.old", f.file);
    assert_int_equal(rename(f.file, old), 0);
}

static void opening_again_makes_a_new_file_and_takes_new_options(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE);
    struct err err;

    (void)unused;
    start(&options);
    log_write(LOG_T_INFO, "first");
    rename_log();
    options.types = LOG_T_WARNING;
    assert_int_equal(log_reopen(&options, &err), 0);
    assert_false(log_wants(LOG_T_INFO));
    log_write(LOG_T_INFO, "second");
    log_write(LOG_T_WARNING, "third");
    log_stop();
    assert_null(strstr(read_file(f.file), "second"));
    assert_non_null(strstr(f.text, "third\n"));
}

static void a_file_that_cannot_be_opened_again_changes_nothing(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE), bad = options;
    struct err err = {""};

    (void)unused;
    assert_int_equal(log_reopen(&options, &err), -1);
    assert_string_equal(err.text, "the log is not started");
    start(&options);
    bad.file = "/nowhere/at/all";
    bad.types = LOG_T_ERROR;
    assert_int_equal(log_reopen(&bad, &err), -1);
    assert_non_null(strstr(err.text, "/nowhere/at/all"));
    log_write(LOG_T_INFO, "still here");
    log_stop();
    assert_string_equal(read_file(f.file), "still here\n");
}

/* --- sinks that do not take what they get --- */

enum { FLOOD = 12000 }; /* lines of 100 bytes: more than four rings */

static void flood(int lines)
{
    for (int i = 0; i < lines; i++)
        log_write(LOG_T_INFO, "flood %06d %80s", i, "");
}

static void start_fifo(void)
{
    struct log_options options = options_for(LOG_D_FILE);

    assert_int_equal(mkfifo(f.fifo, 0600), 0);
    options.file = f.fifo;
    start(&options);
}

static void nobody_reading_holds_neither_log_write_nor_log_stop(void **unused)
{
    int64_t begin;

    (void)unused;
    start_fifo();
    flood(FLOOD);
    assert_true(log_lost() - f.lost_before > FLOOD / 2);
    begin = clock_ms();
    log_stop();
    assert_true(clock_ms() - begin < 10000); /* two seconds, on a machine that has better to do */
    assert_true(log_lost() - f.lost_before <= FLOOD);
    assert_true(log_lost() - f.lost_before > FLOOD - 1000); /* all but what the pipe holds */
}

/* Until the FIFO has no room for one more piece, though there is enough in the ring. */
static void wait_until_full(void)
{
    struct pollfd pfd = {.fd = open(f.fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC), .events = POLLOUT};

    while (poll(&pfd, 1, 0) != 0)
        usleep(1000);
    close(pfd.fd);
    usleep(20000); /* now it waits; should it not, the tests hold all the same */
}

static void opening_again_frees_the_log_from_a_sink_that_hangs(void **unused)
{
    struct log_options options = options_for(LOG_D_FILE);
    struct err err;
    int fifo, sent = FLOOD, arrived;

    (void)unused;
    start_fifo();
    fifo = open(f.fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    flood(FLOOD);
    wait_until_full();
    options.file = f.file;
    assert_int_equal(log_reopen(&options, &err), 0);
    do {
        usleep(1000);
        log_write(LOG_T_INFO, "flood no more");
        sent++;
    } while (strstr(read_file(f.file), "flood no more") == NULL);
    log_stop();
    arrived = count_of(read_all(fifo), "flood ");
    assert_true(arrived > 0);
    arrived += (int)reported_lost(f.text); /* while the FIFO still had room */
    arrived += count_of(read_file(f.file), "flood ");
    assert_int_equal(arrived + reported_lost(f.text), sent);
}

/* A full disk may take half a line; the next one begins on a line of its own, not behind that half. */
static void half_a_line_is_ended_before_the_next(void **unused)
{
    static struct log_sink sink;
    const struct log_stamp no_stamp = {.on = false};
    const struct log_wait never = {NULL, NULL};
    const struct log_line cut = {0, LOG_T_INFO, "cut short", 9}, next = {0, LOG_T_INFO, "next", 4};
    struct rlimit before, five;
    unsigned lost[2];

    (void)unused;
    sink.dest = LOG_D_FILE;
    sink.fd = open(f.file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    five = (struct rlimit){5, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    log_sink_put(&sink, &no_stamp, &cut, &never);
    setrlimit(RLIMIT_FSIZE, &five);
    lost[0] = log_sink_flush(&sink, &never);
    log_sink_put(&sink, &no_stamp, &next, &never);
    lost[1] = log_sink_flush(&sink, &never);
    setrlimit(RLIMIT_FSIZE, &before); /* first of all: cmocka may be writing to a file */
    assert_int_equal(lost[0], 1);
    assert_int_equal(lost[1], 1); /* one line, not two for the newline before it */
    assert_int_equal(sink.error, EFBIG);
    assert_int_equal(sink.missing, 2);
    assert_int_equal(log_sink_put(&sink, &no_stamp, &next, &never), 0);
    assert_int_equal(log_sink_flush(&sink, &never), 0);
    assert_int_equal(sink.error, 0);
    close(sink.fd);
    assert_string_equal(read_file(f.file), "cut s\nnext\n");
}

static void *read_on(void *arg)
{
    (void)arg;
    read_all(f.reader);
    return NULL;
}

/* Nothing is lost without being counted: what arrived and what is said to be missing is all there was. */
static void a_sink_is_told_how_many_lines_it_missed(void **unused)
{
    pthread_t thread;

    (void)unused;
    stderr_to_pipe();
    start_dests(LOG_D_STDERR);
    flood(FLOOD);
    assert_true(log_lost() > f.lost_before);
    assert_int_equal(pthread_create(&thread, NULL, read_on, NULL), 0);
    log_stop();
    stderr_back(); /* the end of the file for the reader */
    pthread_join(thread, NULL);
    assert_true(reported_lost(f.text) > 0);
    assert_int_equal(reported_lost(f.text), log_lost() - f.lost_before);
    assert_int_equal(count_of(f.text, "flood ") + reported_lost(f.text), FLOOD);
    assert_int_equal(count_of(f.text, "\n"), count_of(f.text, "flood ") + count_of(f.text, "lost\n"));
}

/* Reads the pipe behind stderr until a line tells what is missing; returns the number of other lines. */
static int read_until_reported(void)
{
    size_t used = 0;

    do {
        ssize_t n = read(f.reader, f.text + used, sizeof f.text - 1 - used);
        assert_true(n > 0);
        used += (size_t)n;
        f.text[used] = 0;
    } while (!strstr(f.text, " log lines lost\n"));
    return count_of(f.text, "flood ");
}

static void a_stuck_sink_does_not_hold_the_others_and_is_told_without_a_new_line(void **unused)
{
    enum { LINES = 2000 }; /* more than a pipe, less than the ring */
    int arrived;

    (void)unused;
    stderr_to_pipe();
    start_dests(LOG_D_STDERR | LOG_D_FILE);
    flood(LINES);
    while (count_of(read_file(f.file), "flood ") < LINES)
        usleep(10000); /* a broken log hangs here */
    assert_int_equal(reported_lost(f.text), 0);
    arrived = read_until_reported();
    assert_int_equal(arrived + reported_lost(f.text), LINES);
    assert_int_equal(log_lost() - f.lost_before, LINES - arrived);
    log_write(LOG_T_INFO, "all is well");
    log_stop();
    assert_string_equal(read_stderr(), "all is well\n");
}

static void a_full_disk_is_told_to_the_other_sinks_once(void **unused)
{
    struct log_options options = options_for(LOG_D_STDERR | LOG_D_FILE);

    (void)unused;
    stderr_to_pipe();
    options.file = "/dev/full";
    start(&options);
    log_write(LOG_T_INFO, "one");
    while (log_lost() == f.lost_before)
        usleep(1000);
    log_write(LOG_T_INFO, "two");
    log_stop();
    assert_int_equal(log_lost() - f.lost_before, 2);
    assert_string_equal(
        read_stderr(),
        "one\nCannot write the log to /dev/full: No space left on device; its lines are lost\ntwo\n");
}

static void a_reader_that_goes_away_kills_nobody(void **unused)
{
    (void)unused;
    stderr_to_pipe();
    start_dests(LOG_D_STDERR | LOG_D_FILE);
    close(f.reader);
    log_write(LOG_T_INFO, "line");
    log_stop();
    assert_non_null(strstr(read_file(f.file), "line\n"));
    assert_non_null(strstr(f.text, "Cannot write the log to stderr: Broken pipe"));
}

/* The journal's stderr is a stream socket. A write of the usual kind would wait half way here, in spite of
 * poll(). */
static void a_full_socket_holds_nobody(void **unused)
{
    int pair[2], least = 1;

    (void)unused;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    f.reader = pair[0];
    stderr_to(pair[1]);
    start_dests(LOG_D_STDERR | LOG_D_FILE);
    flood(100);
    while (count_of(read_file(f.file), "flood ") < 100)
        usleep(10000);
    log_stop();
    read_stderr();
    /* a line of which only the first part was taken has arrived, in a way, and is lost all the same */
    assert_in_range(count_of(f.text, "flood ") + log_lost() - f.lost_before, 100, 101);
}

static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;

    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;
}

/* The one kind of descriptor that still blocks: the master side of a pseudo-terminal, which poll() calls
 * writable when there is room for one byte. The thread is left behind, and frees what it holds when it is let
 * go. */
static void a_write_that_blocks_is_left_behind(void **unused)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave, threads = count_threads();
    struct termios raw;
    int64_t begin;

    (void)unused;
    if (master < 0 || unlockpt(master) != 0)
        skip();
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (slave < 0 || tcgetattr(slave, &raw) != 0)
        skip();
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    stderr_to(master);
    start_dests(LOG_D_STDERR);
    flood(FLOOD);
    begin = clock_ms();
    log_stop();
    assert_true(clock_ms() - begin < 10000);
    assert_true(log_lost() > f.lost_before);
    log_write(LOG_T_ERROR, "directly, and not waited for either");
    while (count_threads() > threads) {
        while (read(slave, f.text, sizeof f.text) > 0) {
        }
        usleep(1000);
    }
    stderr_back();
    close(slave);
    start_dests(LOG_D_FILE);
    log_write(LOG_T_INFO, "a new log");
    log_stop();
    assert_string_equal(read_file(f.file), "a new log\n");
}

/* --- topics, threads, sleep --- */

static struct {
    int count;
    enum log_type type;
    char line[200];
    pthread_t thread;
} topic;

static void on_topic(void *arg, enum log_type type, const char *line)
{
    assert_ptr_equal(arg, &topic);
    topic.count++;
    topic.type = type;
    topic.thread = pthread_self();
    snprintf(topic.line, sizeof topic.line, "%s", line);
    log_write(LOG_T_WARNING, "a callback that logs after all");
}

static void the_topic_gets_its_lines_on_the_thread_that_logs(void **unused)
{
    struct log_options options = options_for(LOG_D_TOPIC);

    (void)unused;
    memset(&topic, 0, sizeof topic);
    options.types = LOG_T_ALL;
    options.timestamp = true;
    options.timestamp_format = "%%";
    start(&options);
    log_write(LOG_T_NOTICE, "nobody yet");
    log_on_topic(on_topic, &topic);
    log_write(LOG_T_NOTICE, "hello");
    assert_int_equal(topic.count, 1);
    assert_int_equal(topic.type, LOG_T_NOTICE);
    assert_string_equal(topic.line, "%: hello");
    assert_true(pthread_equal(topic.thread, pthread_self()));
    log_write(LOG_T_DEBUG, "publishing this would be logged, and so on");
    assert_int_equal(topic.count, 1);
    log_on_topic(NULL, NULL);
    log_write(LOG_T_NOTICE, "nobody any more");
    assert_int_equal(topic.count, 1);
}

enum { THREADS = 4, LINES = 1000 };

static void *log_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        log_write(LOG_T_INFO, "thread %d line %d", (int)(intptr_t)arg, i);
    return NULL;
}

static void many_threads_may_log(void **unused)
{
    struct err err;
    struct log_options options = options_for(LOG_D_FILE);
    pthread_t threads[THREADS];
    int next[THREADS] = {0}, lines = 0;

    (void)unused;
    start(&options);
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, (void *)i), 0);
    assert_int_equal(log_reopen(&options, &err), 0); /* the same file: nothing gets lost between the two */
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_stop();
    for (char *line = strtok((char *)(uintptr_t)read_file(f.file), "\n"); line; line = strtok(NULL, "\n")) {
        int thread, number;
        if (sscanf(line, "thread %d line %d", &thread, &number) != 2)
            continue;
        assert_true(number >= next[thread]);
        next[thread] = number + 1;
        lines++;
    }
    assert_int_equal(lines + log_lost() - f.lost_before, THREADS * LINES);
}

/* How often the log thread has gone to sleep. */
static long log_thread_sleeps(void)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    long sleeps = -1;

    while ((entry = readdir(dir))) {
        char path[300], status[4096];
        int fd;
        ssize_t n;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        n = read(fd, status, sizeof status - 1);
        close(fd);
        status[n > 0 ? n : 0] = 0;
        if (strncmp(status, "Name:\tlog\n", 10) == 0 && strstr(status, "\nvoluntary_ctxt_switches:"))
            sleeps = strtol(strstr(status, "\nvoluntary_ctxt_switches:") + 25, NULL, 10);
    }
    closedir(dir);
    return sleeps;
}

static void nothing_logged_nothing_woken(void **unused)
{
    long sleeps;

    (void)unused;
    start_dests(LOG_D_FILE);
    log_write(LOG_T_INFO, "line");
    while (strcmp(read_file(f.file), "line\n") != 0)
        usleep(1000);
    usleep(200000); /* it has gone to sleep again */
    sleeps = log_thread_sleeps();
    assert_true(sleeps > 0);
    usleep(300000);
    assert_int_equal(log_thread_sleeps(), sleeps);
    log_write(LOG_T_INFO, "line");
    while (strcmp(read_file(f.file), "line\nline\n") != 0)
        usleep(1000);
}

static void the_ring_gives_back_what_it_got_however_it_lies(void **unused)
{
    struct log_ring *ring = malloc(sizeof *ring);
    char batch[4096], text[100];
    struct log_line line = {.text = text}, got;
    size_t n;

    (void)unused;
    memset(ring, 0, offsetof(struct log_ring, bytes));
    for (int i = 0; i < 20000; i++) { /* some times round, at every offset */
        line.sec = i;
        line.type = (enum log_type)(1 << i % 9);
        line.len = (size_t)(i % 97);
        memset(text, 'a' + i % 26, sizeof text);
        assert_true(log_ring_push(ring, &line));
        n = log_ring_take(ring, batch, sizeof batch);
        assert_int_equal(log_ring_line(batch, 0, &got), n);
        assert_int_equal(got.sec, i);
        assert_int_equal(got.type, line.type);
        assert_int_equal(got.len, line.len);
        assert_memory_equal(got.text, text, line.len);
    }
    assert_int_equal(log_ring_take(ring, batch, sizeof batch), 0);
    for (n = 0; log_ring_push(ring, &line); n++) {
    }
    assert_int_equal(n, LOG_RING_SIZE / (16 + line.len));
    assert_true(log_ring_take(ring, batch, sizeof batch) > 0);
    assert_true(log_ring_push(ring, &line)); /* there is room again */
    free(ring);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(before_the_start_lines_go_to_stderr), /* must be the first: there is no way back to before the
                                                      start */
        TEST(a_file_gets_the_seconds_and_the_text),
        TEST(the_timestamp_has_the_format_that_was_asked_for),
        TEST(without_timestamps_there_is_the_text_only),
        TEST(the_journal_gets_priorities_and_no_timestamps),
        TEST(another_stream_than_the_journals_is_none),
        TEST(strangers_text_cannot_leave_its_line),
        TEST(what_is_too_long_ends_in_dots),
        TEST(access_lines_have_sinks_of_their_own),
        TEST(without_a_log_there_may_be_an_access_log),
        TEST(it_says_which_file_cannot_be_opened),
        TEST(an_access_log_on_a_full_disk_is_told_to_the_log),
        TEST(an_access_log_says_what_it_missed_in_json),
        TEST(access_lines_fill_half_of_the_ring),
        TEST(any_text_becomes_the_inside_of_a_json_string),
        TEST(times_are_those_of_rfc_3339),
        TEST(types_that_are_not_wanted_go_nowhere),
        TEST(without_destinations_nothing_is_wanted),
        TEST(bad_options_are_refused_with_a_reason),
        TEST(syslog_without_a_syslogd_harms_nobody),
        TEST(opening_again_makes_a_new_file_and_takes_new_options),
        TEST(a_file_that_cannot_be_opened_again_changes_nothing),
        TEST(nobody_reading_holds_neither_log_write_nor_log_stop),
        TEST(opening_again_frees_the_log_from_a_sink_that_hangs),
        TEST(half_a_line_is_ended_before_the_next),
        TEST(a_sink_is_told_how_many_lines_it_missed),
        TEST(a_stuck_sink_does_not_hold_the_others_and_is_told_without_a_new_line),
        TEST(a_full_disk_is_told_to_the_other_sinks_once),
        TEST(a_reader_that_goes_away_kills_nobody),
        TEST(a_full_socket_holds_nobody),
        TEST(a_write_that_blocks_is_left_behind),
        TEST(the_topic_gets_its_lines_on_the_thread_that_logs),
        TEST(many_threads_may_log),
        TEST(nothing_logged_nothing_woken),
        TEST(the_ring_gives_back_what_it_got_however_it_lies),
    };
    alarm(100); /* what waits for a sink must not wait for ever */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
