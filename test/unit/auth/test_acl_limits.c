/*
 * test_acl_limits.c - the limits of an acl_file: what each admits, whose counts, what is refused and where;
 * names that look like patterns; and that a file cut anywhere never gives a user topics without their limits.
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

/* who: "USER|CLIENT|ADDRESS", without USER for anonymous; behind a further | it uses TLS. The names lie in
 * blocks of their size, so that a read beyond is found. */
static struct acl_answer admits(const struct acl *acl, const char *who)
{
    struct principal principal = {0};
    const char *client = strchr(who, '|') + 1, *address = strchr(client, '|') + 1;
    const char *end = address + strcspn(address, "|");
    if (*who != '|')
        principal.user = strndup(who, (size_t)(client - who) - 1);
    principal.client_id = strndup(client, (size_t)(address - client) - 1);
    assert_true((size_t)(end - address) < sizeof principal.address);
    memcpy(principal.address, address, (size_t)(end - address));
    principal.tls_version = *end ? "TLSv1.3" : NULL;
    struct acl_answer answer = acl_admits(acl, &principal);
    free(principal.user);
    free(principal.client_id);
    return answer;
}

struct row {
    const char *who;
    bool admitted;
    unsigned line;
};

static void check(const char *text, const struct row *rows, size_t n)
{
    struct acl *acl = load(text);
    for (size_t i = 0; i < n; i++) {
        struct acl_answer answer = admits(acl, rows[i].who);
        if (answer.allowed != rows[i].admitted || answer.line != rows[i].line)
            fail_msg("%s: %d by line %u", rows[i].who, answer.allowed, answer.line);
        assert_int_equal(answer.reason == NULL, answer.allowed);
    }
    acl_unref(acl);
}

#define CHECK(text, rows) check(text, rows, sizeof rows / sizeof *rows)

static void client_ids(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"u|one|", true, 2},       {"u|One|", false, 2},         {"u|onee|", false, 2},
        {"u||", false, 2},         {"u|dev-7|", true, 3},        {"u|dev-|", false, 2},
        {"u|dev-77|", false, 2},   {"u|dev-\xc3\xa9|", true, 3}, /* one character */
        {"u|a.b|", true, 4},       {"u|a..b|", true, 4},         {"u|a.x.b|", true, 4},
        {"u|a.b.|", false, 2},     {"u|u-x|", true, 5},          {"u|v-x|", false, 2},
        {"u|u|", false, 2},        {"u|x u y|", true, 6},        {"v|x u y|", true, 0},
        {"|dev|", true, 0}, /* nothing is said of them */
        {"u|yesabcabd|", true, 7}, {"u|yesabab|", false, 2},
    };
    CHECK("user u\nclientid one\nclientid dev-?\nclientid a.*b\nclientid %u-*\nclientid * %u *\nclientid "
          "yes*abd*\n",
          rows);
}

/* A name is never a pattern, and no pattern with a name fits who has none. */
static void names_are_plain_text(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"*|x|", false, 1},   {"*|*|", true, 1},      {"?|x|", false, 1},      {"?|?|", true, 1},
        {"%u|%u|", true, 1},  {"%u|%u%u|", false, 1}, {"%u|x|", false, 1},     {"#|#|", true, 1},
        {"#|a/b|", false, 1}, {"+|+|", true, 1},      {"a*c|abc|", false, 1},  {"a*c|a*c|", true, 1},
        {"/|/|", true, 1},    {"|%u|", false, 1},     {"||", false, 1},        {"|x|", false, 1},
        {"%c|x|", false, 1},  {"u|\xff|", false, 1},  {"\xff|\xff|", true, 1},
    };
    CHECK("clientid %u\n", rows);
    static const struct row any[] = {{"|x|", true, 1}, {"||", true, 1}, {"*|\x01|", true, 1}};
    CHECK("clientid *\n", any);
    static const struct row percent[] = {{"u|5%|", true, 1}, {"u|%d|", true, 2}, {"u|5u|", false, 1}};
    CHECK("clientid 5%\nclientid %d\n", percent);

    struct acl *acl = load("clientid %u*\n"); /* a user with an empty name has none to show either */
    struct principal empty = {.user = strdup(""), .client_id = strdup("x")};
    assert_false(acl_admits(acl, &empty).allowed);
    free(empty.user);
    empty.user = NULL;
    assert_false(acl_admits(acl, &empty).allowed);
    free(empty.client_id);
    empty.client_id = NULL;
    assert_false(acl_admits(acl, &empty).allowed);
    acl_unref(acl);
}

/* The longest names, against the pattern that goes back the most: the work is bounded, and "*" takes them. */
static void long_names(void **state)
{
    (void)state;
    struct principal who = {.user = malloc(65536), .client_id = malloc(65536)};
    memset(who.user, 'a', 65535);
    memset(who.client_id, 'a', 65535);
    who.user[65535] = who.client_id[65535] = 0;
    struct acl *acl = load("clientid *a*a*a*a*%u*?*b\nclientid a*\nclientid %u\n");
    assert_false(acl_admits(acl, &who).allowed); /* too long to be looked at */
    who.client_id[513] = 0;
    assert_false(acl_admits(acl, &who).allowed);
    who.client_id[512] = 0;
    assert_int_equal(acl_admits(acl, &who).line, 2);
    acl_unref(acl);
    acl = load("clientid *a*a*a*a*%u*%u*?*b\n");
    who.user[200] = 0;
    assert_false(acl_admits(acl, &who).allowed);
    who.client_id[511] = 'b';
    assert_true(acl_admits(acl, &who).allowed);
    acl_unref(acl);
    acl = load("clientid x\nclientid *\n");
    who.client_id[512] = 'a';
    assert_int_equal(acl_admits(acl, &who).line, 2);
    acl_unref(acl);
    free(who.user);
    free(who.client_id);
}

static void addresses(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"u|c|10.0.0.1", true, 2},        {"u|c|10.255.255.255", true, 2},
        {"u|c|11.0.0.0", false, 2},       {"u|c|9.255.255.255", false, 2},
        {"u|c|::ffff:10.2.3.4", true, 2}, {"u|c|192.168.7.9", true, 3},
        {"u|c|192.168.7.8", false, 2},    {"u|c|fe80::1", true, 4},
        {"u|c|febf::1%eth0", true, 4},    {"u|c|fec0::1", false, 2},
        {"u|c|2001:db8::7", true, 5},     {"u|c|2001:db8::8", false, 2},
        {"u|c|172.16.5.129", true, 6},    {"u|c|::ffff:172.16.5.127", false, 2},
        {"u|c|::10.0.0.1", false, 2},     {"u|c|unix", true, 7},
        {"u|c|local", false, 2},          {"u|c|", false, 2},
        {"u|c|10.0.0", false, 2},         {"u|c|::", false, 2},
        {"v|c|1.2.3.4", true, 0},
    };
    CHECK("user u\naddress 10.0.0.0/8\naddress 192.168.7.9\naddress fe80::/10\naddress 2001:DB8:0::7/128\n"
          "address ::ffff:172.16.5.128/121\naddress unix\n",
          rows);
    static const struct row any[] = {{"|c|1.2.3.4", true, 1}, {"|c|::1", true, 1}, {"|c|unix", true, 1}};
    CHECK("address any\n", any);
    static const struct row all[] = {{"|c|1.2.3.4", true, 1}, {"|c|::1", false, 1}, {"|c|unix", false, 1}};
    CHECK("address 0.0.0.0/0\n", all);
    static const struct row all6[] = {{"|c|1.2.3.4", false, 1}, {"|c|::1", true, 1}, {"|c|unix", false, 1}};
    CHECK("address ::/0\n", all6);
}

static void tls(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"|c|unix", false, 1},    {"|c|1.2.3.4", false, 1},  {"|c|1.2.3.4|t", true, 1},
        {"v|c|1.2.3.4", true, 3}, {"w|c|1.2.3.4", false, 1},
    };
    CHECK("tls required\nuser v\ntls optional\nuser w\ntopic read #\n", rows);
}

/* Kind for kind: what the own section says, or else the general one; a section may be continued. */
static void own_before_general(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"|a|1.1.1.1", true, 1},  {"|b|1.1.1.1", false, 1},  {"|a|2.2.2.2", false, 2},
        {"u|b|1.1.1.1", true, 4}, {"u|a|1.1.1.1", false, 4}, {"u|b|2.2.2.2", false, 2},
        {"v|a|2.2.2.2", true, 1}, {"v|a|1.1.1.1", false, 6}, {"v|b|2.2.2.2", false, 1},
        {"w|a|1.1.1.1", true, 1}, {"w|a|3.3.3.3", false, 2}, {"u|c|1.1.1.1", true, 9},
    };
    CHECK(
        "clientid a\naddress 1.1.1.1\nuser u\nclientid b\nuser v\naddress 2.2.2.2\nuser w\nuser u\nclientid "
        "c\n",
        rows);
}

static void publishing(void **state)
{
    (void)state;
    struct acl *acl = load("qos 1\nretain no\ntopic write t\nuser u\nqos 2\nretain yes\ntopic write t\nuser "
                           "v\nqos 0\ntopic write t\nuser w\ntopic write t\ntopic deny d\n");
    static const struct {
        const char *user;
        const char *topic;
        uint8_t qos;
        bool retain, allowed;
        unsigned line;
    } rows[] = {
        {NULL, "t", 1, false, true, 3},      {NULL, "t", 2, false, false, 1}, {NULL, "t", 0, true, false, 2},
        {"u", "t", 2, true, true, 7},        {"v", "t", 0, false, true, 10},  {"v", "t", 1, false, false, 9},
        {"v", "t", 0, true, false, 2},       {"w", "t", 1, false, true, 12},  {"w", "t", 2, false, false, 1},
        {"w", "d", 1, false, false, 13},     {"w", "x", 1, false, false, 0},  {"x", "t", 1, false, false, 0},
        {"u", "$SYS/x", 0, false, false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct principal who = {.user = rows[i].user ? strdup(rows[i].user) : NULL, .client_id = strdup("c")};
        struct acl_answer answer =
            acl_publishes(acl, &who, slice_str(rows[i].topic), rows[i].qos, rows[i].retain);
        if (answer.allowed != rows[i].allowed || answer.line != rows[i].line)
            fail_msg("row %zu: %d by line %u", i, answer.allowed, answer.line);
        free(who.user);
        free(who.client_id);
    }
    struct principal nobody = {.client_id = strdup("c")};
    assert_int_equal(acl_most_qos(acl, &nobody).most, 1);
    assert_int_equal(acl_most_qos(acl, &nobody).line, 1);
    assert_int_equal(acl_most_qos(NULL, &nobody).most, 2);
    assert_int_equal(acl_most_qos(acl, NULL).most, 2);
    assert_true(acl_publishes(NULL, &nobody, slice_str("t"), 2, true).allowed);
    assert_false(acl_publishes(acl, NULL, slice_str("t"), 0, false).allowed);
    assert_string_equal(acl_path(acl), files_path);
    assert_null(acl_path(NULL));
    acl_unref(acl);
    acl = load("qos 1\ntopic write t\n"); /* nothing is said of retained ones */
    assert_true(acl_publishes(acl, &nobody, slice_str("t"), 1, true).allowed);
    acl_unref(acl);
    assert_true(acl_admits(NULL, &nobody).allowed);
    acl = load("topic write t\n");
    assert_true(acl_publishes(acl, &nobody, slice_str("t"), 2, true).allowed);
    assert_int_equal(acl_most_qos(acl, &nobody).most, 2);
    acl_unref(acl);
    free(nobody.client_id);
}

static void filters_under_which_nothing_is_readable(void **state)
{
    (void)state;
    struct acl *acl = load("topic read a/#\ntopic deny a/x\ntopic write w/#\npattern read own/%c\n");
    static const struct {
        const char *filter;
        bool some;
    } rows[] = {{"#", true},     {"a/+", true},    {"+/x", true},   {"w/#", false},    {"a/x", false},
                {"own/c", true}, {"own/d", false}, {"own/+", true}, {"$SYS/#", false}, {"$share/g/a", false}};
    struct principal who = {.client_id = strdup("c")};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice filter = slice_str(rows[i].filter);
        struct acl_answer answer = acl_subscribes(acl, &who, filter, true);
        if (answer.allowed != rows[i].some || !answer.reason != answer.allowed)
            fail_msg("%s", rows[i].filter);
        assert_true(acl_subscribes(acl, &who, filter, false).allowed);
    }
    assert_true(acl_subscribes(NULL, &who, slice_str("#"), true).allowed);
    free(who.client_id);
    acl_unref(acl);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line;
        const char *reason;
    } bad[] = {
        {"qos\n", 1, "nothing stands behind qos"},
        {"qos 3\n", 1, "qos is 0, 1 or 2"},
        {"qos 01\n", 1, "qos is 0, 1 or 2"},
        {"qos -1\n", 1, "qos is 0, 1 or 2"},
        {"qos 1 2\n", 1, "qos is 0, 1 or 2"},
        {"QOS 1\n", 1, "\"QOS\" is not topic"},
        {"qos\t1\n", 1, "does not begin"},
        {"qos 1\nqos 1\nqos 2\n", 3, "line 1 says something else: qos 1"},
        {"retain\n", 1, "nothing stands behind retain"},
        {"retain true\n", 1, "retain is no or yes"},
        {"retain No\n", 1, "retain is no or yes"},
        {"retain no\nretain yes\n", 2, "line 1 says something else: retain no"},
        {"tls\n", 1, "nothing stands behind tls"},
        {"tls yes\n", 1, "tls is optional or required"},
        {"tls required\ntls optional\n", 2, "line 1 says something else: tls required"},
        {"user u\nqos 1\nuser v\nqos 2\nuser u\nqos 0\n", 6, "line 2 says something else: qos 1"},
        {"clientid  \n", 1, "nothing stands behind clientid"},
        {"clientid a%c\n", 1, "%c is the client id itself"},
        {"clientid \xff\n", 1, "not UTF-8"},
        {"address\n", 1, "nothing stands behind address"},
        {"address home\n", 1, "\"home\" is not an address"},
        {"address 10.0.0\n", 1, "not an address"},
        {"address 10.0.0.01\n", 1, "not an address"},
        {"address 10.0.0.0/33\n", 1, "a number up to 32"},
        {"address 10.0.0.0/\n", 1, "a number up to 32"},
        {"address 10.0.0.0/8x\n", 1, "a number up to 32"},
        {"address 10.0.0.0/-8\n", 1, "a number up to 32"},
        {"address 10.0.0.0/0008\n", 1, "a number up to 32"},
        {"address 10.0.0.0/8/8\n", 1, "a number up to 32"},
        {"address ::/129\n", 1, "a number up to 128"},
        {"address 10.1.2.3/8\n", 1, "the network is 10.0.0.0/8"},
        {"address 10.0.0.129/25\n", 1, "the network is 10.0.0.128/25"},
        {"address 10.0.0.1/0\n", 1, "the network is 0.0.0.0/0"},
        {"address fe80::1/10\n", 1, "the network is fe80::/10"},
        {"address ::ffff:10.0.0.1/104\n", 1, "the network is ::ffff:10.0.0.0/104"},
        {"address fe80::1%eth0\n", 1, "leave out %eth0"},
        {"address fe80::%eth0/10\n", 1, "leave out %eth0"},
        {"address unix/0\n", 1, "not an address"},
        {"address any/0\n", 1, "not an address"},
        {"address 10.0.0.1 10.0.0.2\n", 1, "not an address"},
        {"address 1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd\n", 1, "too long"},
        /* a limit comes before what it limits */
        {"topic read a\nqos 1\n", 2, "qos must stand before the topics and patterns"},
        {"pattern read a/%c\naddress unix\n", 2, "before the topics and patterns"},
        {"user u\ntopic a\nclientid x\n", 3, "clientid must stand before the topics of its user"},
        {"user u\ntopic a\nuser v\nqos 1\nuser u\nqos 1\n", 6, "before the topics of its user"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {""};
        files_write(bad[i].text);
        assert_null(acl_load(files_path, &err));
        files_expect(err.text, bad[i].line, bad[i].reason);
    }
    struct err err = {""};
    files_write_n("clientid a\0b\n", 13);
    assert_null(acl_load(files_path, &err));
    files_expect(err.text, 1, "zero byte");
    acl_unref(load("user u\npattern read %u\nqos 1\nqos 1\ntopic a\nuser v\nqos 2\n"));
}

/* A pattern of 512 bytes and a hundred lines of a kind are taken, one more is not. */
static void bounds(void **state)
{
    (void)state;
    char text[8192] = "clientid ";
    struct err err = {""};
    memset(text + 9, 'x', 512);
    memcpy(text + 521, "\n", 2);
    acl_unref(load(text));
    memcpy(text + 521, "x\n", 3);
    files_write(text);
    assert_null(acl_load(files_path, &err));
    files_expect(err.text, 1, "the pattern is too long");
    static const char *const lines[] = {"clientid c\n", "address 10.0.0.1\n"};
    for (size_t kind = 0; kind < 2; kind++) {
        *text = 0;
        for (int i = 0; i < 100; i++)
            strcat(text, lines[kind]);
        acl_unref(load(text));
        strcat(text, lines[kind]);
        files_write(text);
        assert_null(acl_load(files_path, &err));
        files_expect(err.text, 101, "more than 100");
    }
}

static bool writes(const struct acl *acl, const char *user, const char *topic, uint8_t qos, bool retain)
{
    struct principal who = {.user = user ? strdup(user) : NULL, .client_id = strdup("c")};
    bool yes = acl_publishes(acl, &who, slice_str(topic), qos, retain).allowed;
    free(who.user);
    free(who.client_id);
    return yes;
}

/* Cut before the end of a line, or behind it: who gets a topic has its limits. (A limit cut short is refused,
 * or is another pattern.) */
static void cut_anywhere(void **state)
{
    (void)state;
    static const char text[] = "address 10.0.0.0/8\ntls required\nqos 0\ntopic write open\nuser mary\nretain "
                               "no\nqos 1\nclientid mary-?\naddress unix\ntopic write home/#\n";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct err err = {""};
        files_write_n(text, cut);
        struct acl *acl = acl_load(files_path, &err);
        if (!acl) {
            assert_int_equal(strncmp(err.text, files_path, strlen(files_path)), 0);
            continue;
        }
        if (writes(acl, NULL, "open", 0, false)) {
            assert_false(writes(acl, NULL, "open", 1, false));
            assert_false(admits(acl, "|c|11.1.1.1|t").allowed || admits(acl, "|c|10.0.0.1").allowed);
        }
        if (writes(acl, "mary", "home/x", 0, false)) {
            assert_false(writes(acl, "mary", "home/x", 2, false) || writes(acl, "mary", "home/x", 0, true));
            assert_false(admits(acl, "mary|mary|unix|t").allowed || admits(acl, "mary|mary-1|::1|t").allowed);
        }
        acl_unref(acl);
    }
}

/* Damage is refused with its line, or another limit; it never makes the file say nothing. */
static void check_damaged(const char *bytes, size_t n, size_t at)
{
    struct err err = {""};
    (void)at;
    files_write_n(bytes, n);
    struct acl *acl = acl_load(files_path, &err);
    if (!acl)
        files_expect(err.text, (unsigned)strtoul(err.text + strlen(files_path) + 1, NULL, 10), "");
    else
        admits(acl, "mary|mary-1|10.0.0.1");
    acl_unref(acl);
}

static void damaged_anywhere(void **state)
{
    (void)state;
    static const char text[] = "address 10.0.0.0/8\ntls required\nqos 0\nuser mary\nretain no\n"
                               "clientid *%u-?\naddress fe80::/10\naddress unix\ntopic write home/#\n";
    sweep_bytes(text, strlen(text), 1, check_damaged);
    sweep_cuts(text, strlen(text), 1, check_damaged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_ids),   cmocka_unit_test(names_are_plain_text),
        cmocka_unit_test(long_names),   cmocka_unit_test(addresses),
        cmocka_unit_test(tls),          cmocka_unit_test(own_before_general),
        cmocka_unit_test(publishing),   cmocka_unit_test(filters_under_which_nothing_is_readable),
        cmocka_unit_test(refuses),      cmocka_unit_test(bounds),
        cmocka_unit_test(cut_anywhere), cmocka_unit_test(damaged_anywhere),
    };
    return cmocka_run_group_tests(tests, files_make, files_remove);
}
