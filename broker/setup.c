/*
 * setup.c - `bramble setup DIR`: what `make run` needs before the daemon can start. See setup.h.
 *
 *   DIR/ca.crt ca.key server.crt server.key   made by the tls room, kept when they are there
 *   DIR/passwd                                user admin with a random password, shown this once
 *   DIR/bramble.conf                          written anew each time, from the options
 *   DIR/conf.d/                               the user's own lines, included by it, never touched
 *   DIR/store/                                for the durable store, never touched either
 *
 * It also looks whether the ports are free, because here it can say how to choose others.
 */
#include "broker/setup.h"
#include "auth/passwd_tool.h"
#include "broker/err.h"
#include "tls/tls.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct setup {
    char dir[PATH_MAX];
    const char *http_dir;
    int plain, tls, web;
    char password[21]; /* "" when the file was there */
};

static const char usage[] =
    "bramble setup makes the files of a secure broker: certificates, a user, a configuration.\n"
    "\n"
    "Usage: bramble setup [--plain-port N] [--tls-port N] [--web-port N] [--http-dir DIR] DIR\n"
    "\n"
    " --plain-port  MQTT without TLS, on loopback only (1883)\n"
    " --tls-port    MQTT over TLS (8883)\n"
    " --web-port    the web page and MQTT over secure WebSocket (8884)\n"
    " --http-dir    the folder of the web page\n"
    "\n"
    "What is in DIR already stays; only DIR/bramble.conf is written anew.\n";

static int port_of(const char *text)
{
    char *end;
    long port = strtol(text, &end, 10);
    return *end == 0 && port >= 1 && port <= 65535 ? (int)port : -1;
}

/* 1: go on; 0: help was asked for; -1: wrong. */
static int parse_args(struct setup *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"plain-port", required_argument, NULL, 'p'},
        {"tls-port", required_argument, NULL, 't'},
        {"web-port", required_argument, NULL, 'w'},
        {"http-dir", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int *ports[] = {['p'] = &s->plain, ['t'] = &s->tls, ['w'] = &s->web};
    int c;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'h') {
            return 0;
        } else if (c == 'd') {
            s->http_dir = optarg;
        } else if (c == '?') {
            return -1;
        } else if ((*ports[c] = port_of(optarg)) < 0) {
            fprintf(stderr, "bramble setup: '%s' is not a port number\n", optarg);
            return -1;
        }
    }
    return optind == argc - 1 ? 1 : -1;
}

static bool port_free(int port, bool loopback)
{
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
    bool is_free = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
                   bind(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno != EADDRINUSE;
    if (fd >= 0) {
        close(fd);
    }
    return is_free;
}

static int check_ports(const struct setup *s)
{
    const struct {
        int port;
        bool loopback;
        const char *option;
    } wanted[] = {
        {s->plain, true, "--plain-port"}, {s->tls, false, "--tls-port"}, {s->web, false, "--web-port"}};
    int taken = 0;
    if (s->plain == s->tls || s->plain == s->web || s->tls == s->web) {
        fprintf(stderr, "bramble setup: the three ports must differ.\n");
        return -1;
    }
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (!port_free(wanted[i].port, wanted[i].loopback)) {
            fprintf(stderr,
                    "Port %d is taken by another program. Choose another: bramble setup %s N, or make run "
                    "RUN_ARGS='%s N'.\n",
                    wanted[i].port, wanted[i].option, wanted[i].option);
            taken++;
        }
    }
    return taken ? -1 : 0;
}

static int make_dir_in(const struct setup *s, const char *name, struct err *err)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return err_set(err, "cannot make the folder %s: %s", path, strerror(errno));
    }
    return 0;
}

static int make_dirs(struct setup *s, const char *dir, struct err *err)
{
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        return err_set(err, "cannot make the folder %s: %s", dir, strerror(errno));
    }
    if (!realpath(dir, s->dir)) {
        return err_set(err, "%s: %s", dir, strerror(errno));
    }
    return make_dir_in(s, "conf.d", err) || make_dir_in(s, "store", err) ? -1 : 0;
}

static int make_user(struct setup *s, struct err *err)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/passwd", s->dir);
    if (access(path, F_OK) == 0) {
        return 0;
    }
    passwd_random(s->password);
    return passwd_set(path, "admin", s->password, err);
}

static void write_conf(const struct setup *s, FILE *f)
{
    const struct passwd *me = getpwuid(geteuid());
    fprintf(f,
            "# Written by `bramble setup`, anew at each run: put your own lines into %s/conf.d/*.conf\n"
            "# it runs as whoever made these files, so that a reload can read them\n"
            "user %s\n"
            "allow_anonymous false\n"
            "# an acknowledged message is on disk, or was taken by all that it is for\n"
            "persistence true\n"
            "persistence_location %s/store\n"
            "# for each client that is slow or away; one that never comes back is forgotten\n"
            "max_queued_bytes 100000000\n"
            "persistent_client_expiration 14d\n"
            "password_file %s/passwd\n"
            "include_dir %s/conf.d\n"
            "\n"
            "# MQTT without TLS, for programs on this machine only\n"
            "listener %d 127.0.0.1\n"
            "\n"
            "# MQTT over TLS\n"
            "listener %d\n"
            "certfile %s/server.crt\n"
            "keyfile %s/server.key\n"
            "\n"
            "# the web page, and MQTT over secure WebSocket\n"
            "listener %d\n"
            "protocol websockets\n"
            "certfile %s/server.crt\n"
            "keyfile %s/server.key\n",
            s->dir, me ? me->pw_name : "bramble", s->dir, s->dir, s->dir, s->plain, s->tls, s->dir, s->dir,
            s->web, s->dir, s->dir);
    if (s->http_dir) {
        fprintf(f, "http_dir %s\n", s->http_dir);
    }
}

static int make_conf(const struct setup *s, struct err *err)
{
    char path[PATH_MAX + 32], temporary[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/bramble.conf", s->dir);
    snprintf(temporary, sizeof temporary, "%s/bramble.conf.new", s->dir);
    FILE *f = fopen(temporary, "we");
    if (!f) {
        return err_set(err, "cannot write %s: %s", temporary, strerror(errno));
    }
    write_conf(s, f);
    bool bad = ferror(f);
    bad |= fclose(f) != 0;
    if (bad || rename(temporary, path) < 0) {
        unlink(temporary);
        return err_set(err, "cannot write %s: %s", path, strerror(errno));
    }
    return 0;
}

static void say_how(const struct setup *s)
{
    char host[HOST_NAME_MAX + 1] = "localhost";
    gethostname(host, sizeof host - 1);
    const char *password = *s->password ? s->password : "PASSWORD";
    printf("\n  The page         https://localhost:%d/   (or https://%s:%d/)\n", s->web, host, s->web);
    printf("  CA certificate   %s/ca.crt   (let the browser trust it, or accept its warning)\n", s->dir);
    printf("  User             admin\n");
    if (*s->password) {
        printf("  Password         %s   (shown this once; only its hash is kept)\n", s->password);
    } else {
        printf("  Password         as shown when %s/passwd was made; a new one: %s passwd %s/passwd "
               "admin\n",
               s->dir, program_invocation_name, s->dir);
    }
    printf("\n  Try it, in two more terminals (package mosquitto-clients):\n\n"
           "    mosquitto_sub -h localhost -p %d --cafile %s/ca.crt -u admin -P %s -v -t 'test/#'\n"
           "    mosquitto_pub -h localhost -p %d --cafile %s/ca.crt -u admin -P %s -t test/hello -m 'Hello, "
           "bramble'\n\n"
           "  On this machine also without TLS, at port %d. More users: %s passwd %s/passwd NAME; then "
           "kill -HUP the daemon.\n\n",
           s->tls, s->dir, password, s->tls, s->dir, password, s->plain, program_invocation_name, s->dir);
    fflush(stdout);
}

int setup_tool(int argc, char **argv)
{
    struct setup s = {.plain = 1883, .tls = 8883, .web = 8884};
    struct err err = {""};
    int go = parse_args(&s, argc, argv);
    if (go <= 0) {
        fputs(usage, go < 0 ? stderr : stdout);
        return go < 0 ? 3 : 0;
    }
    if (check_ports(&s) < 0) {
        return 1;
    }
    if (make_dirs(&s, argv[optind], &err) < 0 || cert_make_all(s.dir, NULL, 0, &err) < 0 ||
        make_user(&s, &err) < 0 || make_conf(&s, &err) < 0) {
        fprintf(stderr, "bramble setup: %s\n", err.text);
        return 1;
    }
    say_how(&s);
    return 0;
}
