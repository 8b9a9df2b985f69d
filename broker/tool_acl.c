/*
 * tool_acl.c - `bramble acl check`: asks the same engine as the daemon. See tool_acl.h.
 *
 *   arguments -> the acl_file (said, or that of a listener of a configuration) -> acl_* -> one line
 *
 * publish, subscribe and receive ask for what a client may do once it is connected; connect, whether the
 * limits of the acl_file let it be. Its password is not looked at.
 */
#include "broker/tool_acl.h"
#include "broker/acl.h"
#include "broker/config.h"
#include "broker/topic.h"
#include <getopt.h>
#include <stdlib.h>

enum { ALLOWED, DENIED, TROUBLE };

enum action { RECEIVE, PUBLISH, SUBSCRIBE, CONNECT, ACTIONS };

static const char *const action_names[ACTIONS] = {
    [RECEIVE] = "receive", [PUBLISH] = "publish", [SUBSCRIBE] = "subscribe", [CONNECT] = "connect"};

struct acl_question {
    const char *config, *file, *topic;
    enum action action; /* ACTIONS: not said */
    int port;           /* 0: of the first listener */
    uint8_t qos;
    bool retain;
    bool readable_only; /* acl_refuse_unreadable */
    bool access_log;    /* topic is access_log_topic */
    struct principal who;
};

static const char usage[] =
    "bramble acl check says what the ACL allows, and which line of it decides.\n"
    "\n"
    "Usage: bramble acl check [-c CONFIG [--port N] | --file ACL] [--user NAME] [--client ID]\n"
    "                         --topic TOPIC --action publish|subscribe|receive [--qos N] [--retain]\n"
    "       bramble acl check [...] [--address ADDRESS] [--tls] --action connect\n"
    "\n"
    " -c, --config  the configuration that names the acl_file (/etc/bramble/bramble.conf)\n"
    " --port        with per_listener_settings: of the listener with this port (the first)\n"
    " --file        this acl_file\n"
    " --user        the user name; without it an anonymous client is asked for\n"
    " --client      the client id\n"
    " --topic       the topic, with the mount_point that the listener may have; for subscribe a filter\n"
    " --qos         of what is published or subscribed to (0)\n"
    " --retain      it is published with RETAIN\n"
    " --address     connect: the address that the client comes from, or unix\n"
    " --tls         connect: it uses TLS\n"
    "\n"
    "The status is 0 for allowed, 1 for denied, 2 when something is wrong. A running broker uses what it "
    "has\n"
    "read at its start or at the last SIGHUP.\n";

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "bramble acl: %s%s\nSee: bramble acl -h\n", what, value);
    return -1;
}

static int parse_port(const char *text, int *port)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || n < 1 || n > 65535) {
        return wrong("not a port number: ", text);
    }
    *port = (int)n;
    return 0;
}

static int parse_action(const char *text, enum action *action)
{
    for (*action = RECEIVE; *action < ACTIONS; (*action)++) {
        if (strcmp(text, action_names[*action]) == 0) {
            return 0;
        }
    }
    return wrong("not publish, subscribe, receive or connect: ", text);
}

static int parse_qos(const char *text, uint8_t *qos)
{
    if (text[0] < '0' || text[0] > '2' || text[1]) {
        return wrong("not a QoS (0, 1 or 2): ", text);
    }
    *qos = (uint8_t)(text[0] - '0');
    return 0;
}

static int parse_address(const char *text, struct principal *who)
{
    if (strlen(text) >= sizeof who->address) {
        return wrong("not an address: ", text);
    }
    memcpy(who->address, text, strlen(text) + 1);
    return 0;
}

/* An option and its value. 1: go on; 0: help was asked for; -1: wrong. */
static int take_option(struct acl_question *q, int option, char *value)
{
    switch (option) {
    case 'c':
        q->config = value;
        return 1;
    case 'p':
        return parse_port(value, &q->port) < 0 ? -1 : 1;
    case 'f':
        q->file = value;
        return 1;
    case 'u':
        q->who.user = value;
        return 1;
    case 'i':
        q->who.client_id = value;
        return 1;
    case 't':
        q->topic = value;
        return 1;
    case 'a':
        return parse_action(value, &q->action) < 0 ? -1 : 1;
    case 'q':
        return parse_qos(value, &q->qos) < 0 ? -1 : 1;
    case 'r':
        q->retain = true;
        return 1;
    case 'A':
        return parse_address(value, &q->who) < 0 ? -1 : 1;
    case 's':
        q->who.tls_version = "TLS";
        return 1;
    case 'h':
        return 0;
    default:
        return wrong("that is not understood", "");
    }
}

static int check_topic(const char *text, enum action action)
{
    struct slice topic = slice_str(text);
    if (!utf8_valid(topic)) {
        return wrong("the topic is not UTF-8", "");
    }
    if (action == SUBSCRIBE) {
        return topic_filter_valid(topic) ? 0 : wrong("not a topic filter: ", text);
    }
    return topic_name_valid(topic) ? 0 : wrong("not a topic name: ", text);
}

/* 1: go on; 0: help was asked for; -1: wrong. */
static int parse_args(struct acl_question *q, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"port", required_argument, NULL, 'p'},
        {"file", required_argument, NULL, 'f'},
        {"user", required_argument, NULL, 'u'},
        {"client", required_argument, NULL, 'i'},
        {"topic", required_argument, NULL, 't'},
        {"action", required_argument, NULL, 'a'},
        {"qos", required_argument, NULL, 'q'},
        {"retain", no_argument, NULL, 'r'},
        {"address", required_argument, NULL, 'A'},
        {"tls", no_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    static char nobody[] = "";
    q->who.client_id = nobody;
    q->action = ACTIONS;
    int c, go = 1;
    while (go > 0 && (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        go = take_option(q, c, optarg);
    }
    if (go <= 0) {
        return go;
    }
    if (optind != argc - 1 || strcmp(argv[optind], "check") != 0) {
        return wrong("the only command is 'check'", "");
    }
    if (q->file && (q->config || q->port)) {
        return wrong("either --file, or --config and --port", "");
    }
    if (q->action == ACTIONS || (!q->topic && q->action != CONNECT)) {
        return wrong("--topic and --action are needed", "");
    }
    return q->action == CONNECT || check_topic(q->topic, q->action) == 0 ? 1 : -1;
}

/* The acl_file of the listener that is asked for; NULL: it has none. The string is the caller's. */
static int file_of_config(struct acl_question *q, char **file, struct err *err)
{
    const struct config_args args = {.path = q->config ? q->config : "/etc/bramble/bramble.conf"};
    struct config *config = config_load(&args, NULL, NULL, err);
    const struct config_listener *found = NULL;
    *file = NULL;
    for (size_t i = 0; config && i < config->listener_count && !found; i++) {
        if (q->port == 0 || config->listeners[i].port == q->port) {
            found = &config->listeners[i];
        }
    }
    int status = 0;
    if (config && !found) {
        status = err_set(err, "%s: no listener has port %d", args.path, q->port);
    } else if (config && found->security->acl_file && !(*file = strdup(found->security->acl_file))) {
        status = err_set(err, "out of memory");
    }
    q->readable_only = config && config->acl_refuse_unreadable;
    q->access_log =
        config && q->topic && config->access_log_topic && strcmp(q->topic, config->access_log_topic) == 0;
    config_free(config);
    return config ? status : -1;
}

static struct acl_answer ask(const struct acl_question *q, const struct acl *acl)
{
    struct slice topic = slice_str(q->topic);
    /* as router.c keeps it from clients */
    if (q->access_log && (q->action == PUBLISH || !acl || !acl_allows(acl, &q->who, ACL_READ, topic))) {
        return (struct acl_answer){.reason = "it is the topic of the access log"};
    }
    switch (q->action) {
    case CONNECT:
        return acl_admits(acl, &q->who);
    case PUBLISH:
        return acl_publishes(acl, &q->who, topic, q->qos, q->retain);
    case SUBSCRIBE:
        return acl_subscribes(acl, &q->who, topic, q->readable_only);
    default:
        return acl_ask(acl, &q->who, ACL_READ, topic);
    }
}

/* Why it is so when no line says it. */
static const char *without_line(const struct acl_question *q, bool allowed, bool any_file)
{
    return !allowed               ? "no line allows it"
           : !any_file            ? "there is no acl_file"
           : q->action == CONNECT ? "no limit concerns this client"
                                  : "no 'subscribe' rule concerns this client; ask for what it may receive";
}

static void print_answer(const struct acl_question *q, const struct acl *acl, struct acl_answer answer)
{
    struct acl_qos qos = acl_most_qos(acl, &q->who);
    fputs(answer.allowed ? "allowed" : "denied", stdout);
    if (answer.line) {
        printf(" by %s:%u", acl_path(acl), answer.line);
    }
    if (answer.reason) {
        printf(": %s", answer.reason);
    } else if (!answer.line) {
        printf(": %s", without_line(q, answer.allowed, acl != NULL));
    }
    if (answer.allowed && q->action == SUBSCRIBE && q->qos > qos.most) {
        printf(" (at QoS %u by %s:%u)", qos.most, acl_path(acl), qos.line);
    }
    putchar('\n');
}

static int answer(const struct acl_question *q, const char *file)
{
    struct err err = {""};
    struct acl *acl = file ? acl_load(file, &err) : NULL;
    if (file && !acl) {
        fprintf(stderr, "%s\n", err.text);
        return TROUBLE;
    }
    struct acl_answer answer = ask(q, acl);
    print_answer(q, acl, answer);
    acl_unref(acl);
    return answer.allowed ? ALLOWED : DENIED;
}

int acl_tool(int argc, char **argv)
{
    struct acl_question q = {0};
    struct err err = {""};
    int go = parse_args(&q, argc, argv);
    if (go == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (go < 0) {
        return TROUBLE;
    }
    char *file = NULL;
    if (q.file ? !(file = strdup(q.file)) : file_of_config(&q, &file, &err) < 0) {
        fprintf(stderr, "bramble acl: %s\n", err.text[0] ? err.text : "out of memory");
        return TROUBLE;
    }
    int status = answer(&q, file);
    free(file);
    return status;
}
