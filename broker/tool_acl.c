/*
 * tool_acl.c - `bramble acl check`: asks the same engine as the daemon. See tool_acl.h.
 *
 *   arguments -> the acl_file (said, or that of a listener of a configuration) -> acl_ask -> one line
 *
 * It asks for what a client may do once it is connected, not whether it may connect.
 */
#include "broker/tool_acl.h"
#include "broker/acl.h"
#include "broker/config.h"
#include "broker/topic.h"
#include <getopt.h>
#include <stdlib.h>

enum { ALLOWED, DENIED, TROUBLE };

struct acl_question {
    const char *config, *file, *topic, *action;
    int port; /* 0: of the first listener */
    struct principal who;
};

static const char usage[] =
    "bramble acl check says what the ACL allows, and which line of it decides.\n"
    "\n"
    "Usage: bramble acl check [-c CONFIG [--port N] | --file ACL] [--user NAME] [--client ID]\n"
    "                         --topic TOPIC --action publish|subscribe|receive\n"
    "\n"
    " -c, --config  the configuration that names the acl_file (/etc/bramble/bramble.conf)\n"
    " --port        with per_listener_settings: of the listener with this port (the first)\n"
    " --file        this acl_file\n"
    " --user        the user name; without it an anonymous client is asked for\n"
    " --client      the client id\n"
    " --topic       the topic, with the mount_point that the listener may have; for subscribe a filter\n"
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
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    static char nobody[] = "";
    q->who.client_id = nobody;
    int c;
    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            q->config = optarg;
            break;
        case 'p':
            if (parse_port(optarg, &q->port) < 0) {
                return -1;
            }
            break;
        case 'f':
            q->file = optarg;
            break;
        case 'u':
            q->who.user = optarg;
            break;
        case 'i':
            q->who.client_id = optarg;
            break;
        case 't':
            q->topic = optarg;
            break;
        case 'a':
            q->action = optarg;
            break;
        case 'h':
            return 0;
        default:
            return wrong("that is not understood", "");
        }
    }
    if (optind != argc - 1 || strcmp(argv[optind], "check") != 0) {
        return wrong("the only command is 'check'", "");
    }
    if (q->file && (q->config || q->port)) {
        return wrong("either --file, or --config and --port", "");
    }
    return q->topic && q->action ? 1 : wrong("--topic and --action are needed", "");
}

static int find_access(const char *action, enum acl_access *access)
{
    static const char *const names[] = {
        [ACL_READ] = "receive", [ACL_WRITE] = "publish", [ACL_SUBSCRIBE] = "subscribe"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(action, names[i]) == 0) {
            *access = (enum acl_access)i;
            return 0;
        }
    }
    return wrong("not publish, subscribe or receive: ", action);
}

/* The acl_file of the listener that is asked for; NULL: it has none. The string is the caller's. */
static int file_of_config(const struct acl_question *q, char **file, struct err *err)
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
    config_free(config);
    return config ? status : -1;
}

static int answer(const struct acl_question *q, enum acl_access access, const char *file)
{
    struct err err = {""};
    struct acl *acl = file ? acl_load(file, &err) : NULL;
    if (file && !acl) {
        fprintf(stderr, "%s\n", err.text);
        return TROUBLE;
    }
    struct acl_answer answer = acl_ask(acl, &q->who, access, slice_str(q->topic));
    const char *word = answer.allowed ? "allowed" : "denied";
    if (answer.line) {
        printf("%s by %s:%u\n", word, file, answer.line);
    } else if (!answer.allowed) {
        printf("%s: no line allows it\n", word);
    } else if (!file) {
        printf("%s: there is no acl_file\n", word);
    } else {
        printf("%s: no 'subscribe' rule concerns this client; ask for what it may receive\n", word);
    }
    acl_unref(acl);
    return answer.allowed ? ALLOWED : DENIED;
}

static int check_topic(const char *text, enum acl_access access)
{
    struct slice topic = slice_str(text);
    if (!utf8_valid(topic)) {
        return wrong("the topic is not UTF-8", "");
    }
    if (access == ACL_SUBSCRIBE) {
        return topic_filter_valid(topic) ? 0 : wrong("not a topic filter: ", text);
    }
    return topic_name_valid(topic) ? 0 : wrong("not a topic name: ", text);
}

int acl_tool(int argc, char **argv)
{
    struct acl_question q = {0};
    struct err err = {""};
    enum acl_access access;
    int go = parse_args(&q, argc, argv);
    if (go == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (go < 0 || find_access(q.action, &access) < 0) {
        return TROUBLE;
    }
    if (check_topic(q.topic, access) < 0) {
        return TROUBLE;
    }
    char *file = NULL;
    if (q.file ? !(file = strdup(q.file)) : file_of_config(&q, &file, &err) < 0) {
        fprintf(stderr, "bramble acl: %s\n", err.text[0] ? err.text : "out of memory");
        return TROUBLE;
    }
    int status = answer(&q, access, file);
    free(file);
    return status;
}
