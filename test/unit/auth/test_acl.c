/*
 * test_acl.c - the acl_file: its precedence as a table (each row was also put to mosquitto 2.0.11), what is
 * refused and where, and that a file cut anywhere never gives a right that the whole file does not give.
 */
#include "broker/acl.h"
#include "test/unit/auth/files.h"
#include "test/unit/sweep.h"

static struct acl *load(const char *text)
{
    struct err err = {""};
    files_write(text);
    struct acl *acl = acl_load(files_path, &err);
    if (!acl)
        fail_msg("%s", err.text);
    return acl;
}

/* who: "USER|CLIENT", without USER for anonymous. The topic lies in a block of its size, so that a read
 * beyond is found. */
static bool allows(const struct acl *acl, const char *who, char access, const char *topic)
{
    char *name = strdup(who), *client = strchr(name, '|') + 1, *block = malloc(strlen(topic) + 1);
    client[-1] = 0;
    memcpy(block, topic, strlen(topic));
    struct principal principal = {.user = *name ? name : NULL, .client_id = client};
    bool yes = acl_allows(acl, &principal,
                          access == 'r'   ? ACL_READ
                          : access == 'w' ? ACL_WRITE
                                          : ACL_SUBSCRIBE,
                          slice_of(block, strlen(topic)));
    free(block);
    free(name);
    return yes;
}

struct row {
    const char *who; /* USER|CLIENT, no USER: anonymous */
    const char *topic;
    const char *rights;
};

static void check(const struct acl *acl, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (const char *access = "rw"; *access; access++)
            if (allows(acl, rows[i].who, *access, rows[i].topic) != (strchr(rows[i].rights, *access) != NULL))
                fail_msg("row %zu: %s %s, %c should be %s", i, rows[i].who, rows[i].topic, *access,
                         strchr(rows[i].rights, *access) ? "allowed" : "denied");
}

#define CHECK(acl, rows) check(acl, rows, sizeof rows / sizeof *rows)

static void sections(void **state)
{
    (void)state;
    struct acl *acl = load("# the first lines are for anonymous clients\n"
                           "topic read public/#\n"
                           "topic write inbox\n"
                           "\n"
                           "user mary\r\n"
                           "topic home/mary/#\r\n"
                           "topic read shared/+/state\r\n"
                           "user  tom mit Leer  \n"
                           "topic   readwrite    two  words \t\n"
                           "user mary\n"
                           "topic write late\n");
    static const struct row rows[] = {
        {"|c", "public", "r"},
        {"|c", "public/x/y", "r"},
        {"|c", "inbox", "w"},
        {"|c", "inbox/x", ""},
        {"|c", "late", ""},
        {"mary|c", "public/x", ""}, /* the first section is not for users */
        {"mary|c", "home/mary", "rw"},
        {"mary|c", "home/mary/x", "rw"},
        {"mary|c", "home/maryx", ""},
        {"mary|c", "shared/a/state", "r"},
        {"mary|c", "shared/a/b/state", ""},
        {"mary|c", "late", "w"}, /* a section may be continued */
        {"mar|c", "late", ""},
        {"maryx|c", "late", ""},
        {"Mary|c", "late", ""},
        {"tom mit Leer|c", "two  words", "rw"},
        {"tom|c", "two  words", ""},
        {"mary|c", "\xff", ""},
    };
    CHECK(acl, rows);
    acl_unref(acl);
}

static void deny_comes_first(void **state)
{
    (void)state;
    struct acl *acl = load("user mary\n"
                           "topic read a/#\n"
                           "topic deny a/secret/#\n"
                           "topic readwrite a/secret/known\n"
                           "topic write both\n"
                           "topic read both\n"
                           "topic deny lit\n"
                           "topic readwrite lit\n"
                           "topic read +/wild\n"
                           "pattern readwrite %u/#\n"
                           "pattern readwrite a/#\n"
                           "pattern deny p/%c/no\n"
                           "pattern read p/#\n"
                           "pattern write w/#\n");
    static const struct row rows[] = {
        {"mary|c", "a/x", "rw"},    /* read from the section, write from the pattern */
        {"mary|c", "a/secret", ""}, /* a denial in the section stops the patterns, too */
        {"mary|c", "a/secret/known", ""},
        {"mary|c", "both", "rw"},
        {"mary|c", "lit", ""},
        {"mary|c", "p/c/no", ""},
        {"mary|c", "p/d/no", "r"},
        {"mary|d", "p/d/no", ""},
        {"mary|c", "mary/x", "rw"},
        {"mary|c", "p/wild", "r"},
        {"mary|c", "w/wild", "rw"},
        {"tom|c", "a/secret/known", "rw"}, /* patterns hold for everybody, whatever section they stand in */
        {"tom|c", "tom", "rw"},
        {"|c", "a/secret", "rw"},
        {"|c", "lit", ""},
    };
    CHECK(acl, rows);
    acl_unref(acl);
}

static void patterns(void **state)
{
    (void)state;
    struct acl *acl = load("pattern readwrite u/%u/data\n"
                           "pattern read c/%c/#\n"
                           "pattern write mix/%u-%c/+/end\n"
                           "pattern read +/%c/+\n"
                           "pattern write %u\n"
                           "pattern read 100%/%x/%%c\n"
                           "pattern read /#\n"
                           "pattern write %c/%c/#\n");
    static const struct row rows[] = {
        {"mary|c1", "u/mary/data", "rw"},
        {"mary|c1", "u/tom/data", ""},
        {"mary|c1", "u/mary/data/x", ""},
        {"mary|c1", "u//data", ""},
        {"|c1", "u//data", ""}, /* a pattern with %u does not exist for the anonymous */
        {"|c1", "u/%u/data", ""},
        {"|c1", "c/c1/x", "r"},
        {"mary|c1", "c/c1", "r"},
        {"mary|c1", "c/c11", ""},
        {"mary|c1", "c/c1/x/y", "r"},
        {"mary|c1", "mix/mary-c1/x/end", "w"},
        {"mary|c1", "mix/mary-c1//end", "w"},
        {"mary|c1", "mix/mary-c1/x/y/end", ""},
        {"mary|c1", "mix/mary-c1/end", ""},
        {"mary|c1", "x/c1/y", "r"},
        {"mary|c1", "x/c1/", "r"},
        {"mary|c1", "x/c1", ""},
        {"mary|c1", "mary", "w"},
        {"mary|c1", "100%/%x/%c1", "r"},
        {"mary|c1", "/", "r"},
        {"mary|c1", "/a/b", "r"},
        {"mary|c1", "a/b", ""},
        {"mary|c1", "c1/c1", "w"},
        {"mary|c1", "c1", ""},
        {"mary|", "/", "rw"},         /* an empty client id: "//#" */
        {"mary|a/b", "c/a/b/x", "r"}, /* a slash in a name is a slash of the topic, as in mosquitto 2.0.11 */
        {"mary|%u", "c/%u/x", "r"},   /* what is put in is not looked at again */
        {"$SYS|c1", "$SYS", ""},
    };
    CHECK(acl, rows);
    acl_unref(acl);
}

/* A name with a wildcard in it must never be taken for one. */
static void wildcard_names(void **state)
{
    (void)state;
    struct acl *acl = load("topic read general\n"
                           "user +\n"
                           "topic read own\n"
                           "user tom\n"
                           "topic read own\n"
                           "pattern readwrite u/%u\n"
                           "pattern readwrite c/%c\n"
                           "pattern read all/#\n");
    static const struct row rows[] = {
        {"+|c", "u/tom", ""},     {"#|c", "u/tom", ""},    {"+|c", "u/+", ""},     {"tom|+", "c/x", ""},
        {"tom|#", "c/x/y", ""},   {"tom|#", "all/x", ""},  {"a+b|c", "all/x", ""}, {"tom|a#", "u/tom", ""},
        {"+|c", "own", "r"},      {"tom|#", "own", "r"},   {"|+", "general", "r"}, {"tom|x", "c/x", "rw"},
        {"tom|x", "u/tom", "rw"}, {"tom|x", "all/x", "r"}, {"|#", "c/x", ""},
    };
    CHECK(acl, rows);
    acl_unref(acl);
}

static void dollar(void **state)
{
    (void)state;
    struct acl *acl = load("topic readwrite #\n"
                           "topic readwrite +/x\n"
                           "topic read $SYS/#\n"
                           "topic readwrite $foo/+\n"
                           "user mary\n"
                           "topic readwrite $SYS/#\n"
                           "topic readwrite $share/#\n"
                           "pattern write $SYS/broker/connection/%c/state\n"
                           "pattern write %c/#\n"
                           "pattern write +/%c\n"
                           "pattern write #\n");
    static const struct row rows[] = {
        {"|c", "a/b", "rw"},
        {"|c", "$foo", ""},
        {"|c", "$foo/x", "rw"},
        {"|c", "$bar/x", ""},
        {"|c", "$SYS/x", "r"},
        {"mary|c", "$SYS/x", "r"}, /* nobody writes to $SYS.. */
        {"mary|c", "$SYSx", ""},
        {"mary|c", "$SYS/broker/connection/c/state", "rw"}, /* ..but for the state of a bridge */
        {"|c", "$SYS/broker/connection/d/state", "r"},
        {"mary|c", "$share/g/x", ""},
        {"tom|$foo", "$foo/y", "w"}, /* after putting in the name the pattern starts with $ */
        {"tom|c", "$foo/c", ""},
        {"tom|c", "$foo", ""},
        {"tom|c", "foo", "w"},
    };
    CHECK(acl, rows);
    acl_unref(acl);

    /* also without any acl_file */
    assert_true(allows(NULL, "tom|c", 'w', "a"));
    assert_true(allows(NULL, "tom|c", 'r', "$SYS/broker/uptime"));
    assert_true(allows(NULL, "tom|c", 'w', "$foo"));
    assert_false(allows(NULL, "tom|c", 'w', "$SYS/broker/uptime"));
    assert_false(allows(NULL, "tom|c", 'w', "$share/g/a"));
    assert_true(allows(NULL, "tom|c", 'w', "$SYS/broker/connection/x/state"));
    assert_true(allows(NULL, "tom|c", 's', "$share/g/a"));
}

/* mosquitto's acl_file does not restrict subscribing; what comes is checked as it is read. */
static void subscribing(void **state)
{
    (void)state;
    struct acl *acl = load("user mary\ntopic deny a/#\n");
    static const char *const filters[] = {"#", "a/#", "a/b", "+/+", "$SYS/#", "$share/g/a", "x"};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        assert_true(allows(acl, "mary|c", 's', filters[i]));
        assert_true(allows(acl, "|c", 's', filters[i]));
    }
    acl_unref(acl);
}

static void empty_denies(void **state)
{
    (void)state;
    struct acl *acl = load("# nothing\n");
    struct principal nameless = {.user = NULL};
    assert_false(allows(acl, "mary|c", 'r', "a"));
    assert_false(allows(acl, "|c", 'w', "a"));
    acl_unref(acl);
    acl = load("topic #\npattern #\n");
    assert_true(allows(acl, "|c", 'w', "a"));
    assert_false(acl_allows(acl, &nameless, ACL_READ, slice_str("a"))); /* no client id yet */
    assert_false(acl_allows(acl, NULL, ACL_READ, slice_str("a")));
    assert_false(allows(acl, "|c", 'r', ""));
    assert_ptr_equal(acl_ref(acl), acl);
    acl_unref(acl);
    assert_true(allows(acl, "|c", 'w', "a"));
    acl_unref(acl);
    acl_unref(NULL);
    assert_null(acl_ref(NULL));
}

static void refuse(const char *text, size_t n, unsigned line, const char *reason)
{
    struct err err = {""};
    files_write_n(text, n);
    assert_null(acl_load(files_path, &err));
    files_expect(err.text, line, reason);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line;
        const char *reason;
    } bad[] = {
        {"foo\n", 1, "\"foo\""},
        {"topic a\n\n# x\nTopic a\n", 4, "\"Topic\""},
        {"topic\n", 1, "no topic"},
        {"pattern  \r\n", 1, "no topic"},
        {"topic a b\n", 1, "\"a\""},
        {"topic READ b\n", 1, "\"READ\""},
        {"topic\tread a\n", 1, "does not begin with topic"},
        {"user\n", 1, "no user name"},
        {"topic a\nuser  \n", 2, "no user name"},
        {"  # x\n", 1, "does not begin with topic"},
        {"topic read a/#/b\n", 1, "filter"},
        {"topic read a+\n", 1, "filter"},
        {"topic read a#\n", 1, "filter"},
        {"pattern read %u+\n", 1, "filter"},
        {"topic read x\xff\n", 1, "UTF-8"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i].text, strlen(bad[i].text), bad[i].line, bad[i].reason);
    refuse("topic a\0b\n", 10, 1, "zero byte");

    char deep[512] = "topic read a";
    for (int i = 0; i < 201; i++)
        strcat(deep, "/");
    refuse(deep, strlen(deep), 1, "levels");
    deep[strlen(deep) - 1] = 0;
    acl_unref(load(deep));

    struct err err;
    unlink(files_path);
    assert_null(acl_load(files_path, &err));
    assert_non_null(strstr(err.text, "No such file"));
}

static void cut_anywhere(void **state)
{
    (void)state;
    static const char text[] =
        "topic read x/y/z\nuser mary\ntopic readwrite home/+/door/#\ntopic deny home/a/door\n"
        "pattern write p/%u/%c/+/x\nuser tom\ntopic read #\n";
    /* what the whole file gives nobody may get from a part of it; "topic" lines give more when cut short, but
     * never anything outside of these */
    static const struct row never[] = {
        {"mary|c", "other", ""}, {"|c", "home/x/door", ""}, {"|c", "p/mary/c/1/x", ""}};
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct err err = {""};
        files_write_n(text, cut);
        struct acl *acl = acl_load(files_path, &err);
        if (acl)
            CHECK(acl, never);
        else
            assert_int_equal(strncmp(err.text, files_path, strlen(files_path)), 0);
        acl_unref(acl);
    }
}

/* What is no rule may be a secret that lies in the wrong place: it is not repeated. */
static void secrets_are_not_shown(void **state)
{
    (void)state;
    static const char *const lines[] = {"tom:canary\n", "tom:$7$101$canarycanary$x\n",
                                        "canary+canary/canary==\n", "canarycanarycanarycanarycanary\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct err err = {""};
        files_write(lines[i]);
        assert_null(acl_load(files_path, &err));
        files_expect(err.text, 1, "does not begin with topic");
        assert_null(strstr(err.text, "canary"));
    }
}

static void check_damaged(const char *bytes, size_t n, size_t at)
{
    static const struct row never[] = {{"mary|c", "other", ""}, {"|c", "other", ""}};
    struct err err = {""};
    (void)at;
    files_write_n(bytes, n);
    struct acl *acl = acl_load(files_path, &err);
    if (acl)
        CHECK(acl, never);
    else
        files_expect(err.text, (unsigned)strtoul(err.text + strlen(files_path) + 1, NULL, 10), "");
    acl_unref(acl);
}

static void damaged_anywhere(void **state)
{
    (void)state;
    static const char text[] = "# rules\ntopic read x/y/z\nuser mary\ntopic readwrite home/+/door/#\n"
                               "topic deny home/a/door\npattern write p/%u/%c/+/x\n";
    sweep_bytes(text, strlen(text), 1, check_damaged);
    sweep_cuts(text, strlen(text), 1, check_damaged);
}

/* A user's look-up must not get dearer by the rules of others, nor by more of the user's own plain topics. */
static void many_rules(void **state)
{
    (void)state;
    struct err err = {""};
    FILE *file = fopen(files_path, "w");
    assert_non_null(file);
    for (int u = 0; u < 500; u++) {
        fprintf(file, "user u%d\n", u);
        for (int t = 0; t < 40; t++)
            fprintf(file, "topic %s u%d/t%d\n", t % 3 == 0 ? "read" : t % 3 == 1 ? "write" : "deny", u, t);
        fprintf(file, "topic readwrite u%d/#\n", u);
    }
    fclose(file);
    struct acl *acl = acl_load(files_path, &err);
    assert_non_null(acl);
    for (int u = 0; u < 500; u += 7)
        for (int t = 0; t < 40; t++) {
            char who[16], topic[32];
            snprintf(who, sizeof who, "u%d|c", u);
            snprintf(topic, sizeof topic, "u%d/t%d", u, t);
            assert_int_equal(allows(acl, who, 'r', topic), t % 3 != 2);
            assert_int_equal(allows(acl, who, 'w', topic), t % 3 != 2);
            assert_false(allows(acl, "u1|c", 'r', topic) && u != 1);
        }
    acl_unref(acl);
}

static void subscribe_rules(void **state)
{
    (void)state;
    struct acl *acl = load("user mary\n"
                           "topic read sensors/#\n"
                           "topic subscribe sensors/+/temp\n"
                           "topic subscribe sensors/hall/#\n"
                           "topic deny sensors/hall/safe\n"
                           "user tom\n"
                           "topic read #\n");
    static const char *const allowed[] = {"sensors/+/temp", "sensors/x/temp", "sensors/hall/#",
                                          "sensors/hall/+/x", "sensors/hall"};
    static const char *const denied[] = {"#",           "sensors/#", "sensors/+",         "sensors/+/#",
                                         "sensors/x/y", "+/x/temp",  "sensors/hall/safe", "$SYS/#",
                                         "other"};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (!allows(acl, "mary|c", 's', allowed[i]))
            fail_msg("%s should be allowed", allowed[i]);
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        if (allows(acl, "mary|c", 's', denied[i]))
            fail_msg("%s should be denied", denied[i]);
    assert_true(acl_limits_subscribing(acl));
    assert_true(allows(acl, "tom|c", 's', "#")); /* no such rule concerns him */
    assert_true(allows(acl, "|c", 's', "#"));
    assert_true(allows(acl, "mary|c", 'r', "sensors/x/y")); /* it is about subscribing only */
    assert_false(allows(acl, "mary|c", 'w', "sensors/hall/x"));
    acl_unref(acl);

    acl = load("pattern subscribe own/%u/#\nuser tom\ntopic subscribe #\ntopic read own/mary\n");
    assert_true(allows(acl, "mary|c", 's', "own/mary/#"));
    assert_true(allows(acl, "mary|c", 's', "own/mary/+"));
    assert_false(allows(acl, "mary|c", 's', "own/#"));
    assert_false(allows(acl, "mary|c", 's', "own/+"));
    assert_false(allows(acl, "mary|c", 'r', "own/mary/x"));
    assert_false(allows(acl, "|c", 's', "own/mary/x"));
    assert_false(allows(acl, "+|c", 's', "own/+/#"));
    assert_true(allows(acl, "tom|c", 's', "#"));
    assert_false(allows(acl, "tom|c", 's', "$SYS/#")); /* "#" says nothing of topics with a $ */
    assert_true(allows(acl, "a/b|c", 's', "own/a/b/#"));
    acl_unref(acl);
}

static void answers_name_the_line(void **state)
{
    (void)state;
    assert_false(acl_limits_subscribing(NULL));
    struct acl *acl = load("# nobody\n"
                           "user mary\n"
                           "topic read a/#\n"
                           "topic read a/b\n"
                           "topic write a/b\n"
                           "topic deny a/b/c\n"
                           "pattern readwrite %c/#\n"
                           "topic readwrite a/b\n");
    static const struct {
        const char *topic;
        enum acl_access access;
        bool allowed;
        unsigned line;
    } rows[] = {
        {"a/b", ACL_READ, true, 3},   {"a/b", ACL_WRITE, true, 5}, {"a/b/c", ACL_WRITE, false, 6},
        {"me/x", ACL_WRITE, true, 7}, {"b", ACL_READ, false, 0},   {"#", ACL_SUBSCRIBE, true, 0},
    };
    struct principal who = {.user = strdup("mary"), .client_id = strdup("me")};
    assert_false(acl_limits_subscribing(acl));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct acl_answer answer = acl_ask(acl, &who, rows[i].access, slice_str(rows[i].topic));
        assert_int_equal(answer.allowed, rows[i].allowed);
        assert_int_equal(answer.line, rows[i].line);
    }
    free(who.user);
    free(who.client_id);
    acl_unref(acl);
}

/* all: everything that the filter matches may be read; some: something of it may. */
struct filter_row {
    const char *who, *filter;
    bool all, some;
};

static void check_filters(const struct acl *acl, const struct filter_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *name = strdup(rows[i].who), *client = strchr(name, '|') + 1;
        client[-1] = 0;
        struct principal who = {.user = *name ? name : NULL, .client_id = client};
        if (acl_reads_all(acl, &who, slice_str(rows[i].filter)) != rows[i].all)
            fail_msg("%s %s: all of it should be %d", rows[i].who, rows[i].filter, rows[i].all);
        if (acl_reads_some(acl, &who, slice_str(rows[i].filter)) != rows[i].some)
            fail_msg("%s %s: some of it should be %d", rows[i].who, rows[i].filter, rows[i].some);
        free(name);
    }
}

static void what_filters_match_where_patterns_deny(void **state)
{
    (void)state;
    struct acl *acl = load("user mary\n"
                           "topic read $own/#\n"
                           "topic read a/#\n"
                           "topic deny #\n"
                           "user tom\n"
                           "topic read $own/#\n"
                           "topic read a/#\n"
                           "topic deny +/secret\n"
                           "pattern read %c/#\n"
                           "pattern deny %c/door\n");
    static const struct filter_row rows[] = {
        {"mary|c", "$own/x", true, true},     {"mary|c", "a/x", false, false}, /* "#" is not about $own */
        {"tom|c", "$own/secret", true, true}, {"tom|c", "a/secret", false, false},
        {"tom|c", "a/open", true, true},      {"eve|c", "c/#", false, true},
        {"eve|c", "c/window", true, true},    {"eve|c", "c/door", false, false},
        {"a/b|c", "c/window", false, true},   {"a/b|c", "c/+", false, true}, /* a slash may mean anything */
    };
    check_filters(acl, rows, sizeof rows / sizeof *rows);
    check_filters(NULL, &(struct filter_row){"eve|c", "#", true, true}, 1);
    struct principal nobody = {.user = (char[]){""}, .client_id = (char[]){"c"}}; /* a name, not none */
    assert_false(acl_allows(acl, &nobody, ACL_READ, slice_str("a/x")));
    assert_true(acl_allows(acl, &nobody, ACL_READ, slice_str("c/x")));
    acl_unref(acl);
}

/* What takes long to find out is not found out: each message is asked about then. */
static void among_many_rules_a_filter_is_not_followed_for_ever(void **state)
{
    (void)state;
    char *text = calloc(1, 20000);
    strcpy(text, "user mary\ntopic read #\n");
    for (int i = 0; i < 300; i++)
        sprintf(text + strlen(text), "topic deny %d/y\n", i);
    struct acl *acl = load(text);
    static const struct filter_row rows[] = {{"mary|c", "+/x", false, true}, {"mary|c", "1/x", true, true}};
    check_filters(acl, rows, 2);
    acl_unref(acl);
    free(text);
}

static void what_filters_match(void **state)
{
    (void)state;
    struct acl *acl = load("user mary\n"
                           "topic read a/#\n"
                           "topic read b/+/c\n"
                           "topic deny a/x/secret\n"
                           "topic write w/#\n"
                           "topic deny d/#\n"
                           "pattern read own/%u/%c\n"
                           "pattern read d/#\n");
    static const struct filter_row rows[] = {
        {"mary|c", "a/y/#", true, true},       {"mary|c", "a", true, true},
        {"mary|c", "a/x/open", true, true},    {"mary|c", "a/#", false, true},
        {"mary|c", "a/+/secret", false, true}, {"mary|c", "a/x/secret", false, false},
        {"mary|c", "b/1/c", true, true},       {"mary|c", "b/+/c", true, true},
        {"mary|c", "b/#", false, true},        {"mary|c", "b/+/d", false, false},
        {"mary|c", "#", false, true},          {"mary|c", "+/x/c", false, true},
        {"mary|c", "w/#", false, false},       {"mary|c", "d/1", false, false},
        {"mary|c", "d/#", false, false},       {"mary|c", "own/mary/c", true, true},
        {"mary|c", "own/mary/+", false, true}, {"mary|c", "own/mary/d", false, false},
        {"mary|c", "own/tom/+", false, false}, {"mary|c", "own/+/c", false, true},
        {"mary|c", "$SYS/#", false, false},    {"mary|c", "$share/g/a/y", false, false},
        {"tom|c", "a/y", false, false},        {"tom|c", "d/1", true, true},
        {"tom|c", "own/tom/c", true, true},    {"tom|a/b", "own/tom/a/b", true, true},
        {"|c", "own/x/c", false, false},       {"|c", "d/#", true, true},
        {"+|c", "d/#", false, false},
    };
    check_filters(acl, rows, sizeof rows / sizeof *rows);
    acl_unref(acl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections),
        cmocka_unit_test(deny_comes_first),
        cmocka_unit_test(patterns),
        cmocka_unit_test(wildcard_names),
        cmocka_unit_test(dollar),
        cmocka_unit_test(subscribing),
        cmocka_unit_test(empty_denies),
        cmocka_unit_test(refuses),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(many_rules),
        cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(subscribe_rules),
        cmocka_unit_test(answers_name_the_line),
        cmocka_unit_test(what_filters_match),
        cmocka_unit_test(what_filters_match_where_patterns_deny),
        cmocka_unit_test(among_many_rules_a_filter_is_not_followed_for_ever),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
