/*
 * args.c - the daemon's command line, with mosquitto's names and meanings, so that scripts that start
 * mosquitto can start bramble.
 */
#include "broker/config.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STATUS_MISTAKE = 3 };

static void print_usage(FILE *out)
{
    fputs("bramble " BRAMBLE_VERSION ", an MQTT broker\n"
          "\n"
          "Usage: bramble [-c FILE] [-p PORT] [-d] [-v] [-q] [-t]\n"
          "\n"
          " -c, --config-file FILE  read the configuration from FILE (in the style of mosquitto.conf). "
          "Without one,\n"
          "                         only clients on this machine can connect, and they need no password.\n"
          " -p, --port PORT         port of the default listener, 1883 if not said. Ignored when the file "
          "has a\n"
          "                         'listener'.\n"
          " -d, --daemon            go to the background after starting.\n"
          " -v, --verbose           log everything, whatever log_type says.\n"
          " -q, --quiet             log nothing, whatever log_type and -v say.\n"
          " -t, --test-config       check the file of -c and exit: with 0 if it is good, with 3 if not.\n"
          " -h, --help              show this text.\n"
          "     --version           show the version.\n"
          "\n"
          "Tools, each with -h: bramble passwd (password files), bramble cert (a CA and certificates), "
          "bramble setup (all\n"
          "that a secure broker needs, in one folder), bramble acl (what an ACL says), bramble store "
          "(whether a\n"
          "durable store is whole, and what is in it).\n",
          out);
}

static bool is_option(const char *arg, const char *brief, const char *full)
{
    return strcmp(arg, brief) == 0 || strcmp(arg, full) == 0;
}

static int mistake(FILE *errors, const char *what, const char *arg)
{
    fprintf(errors, "bramble: Error: %s%s%s (bramble --help lists the options)\n", what, arg ? ": " : "",
            arg ? arg : "");
    return STATUS_MISTAKE;
}

static int parse_port(const char *text, struct config_args *args, FILE *errors)
{
    char *end;
    long port;

    errno = 0;
    port = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || port < 1 || port > 65535) {
        return mistake(errors, "Invalid port specified", text);
    }
    if (args->port) {
        return mistake(errors,
                       "only one -p is possible: say 'listener' several times in a configuration file", NULL);
    }
    args->port = (int)port;
    return 0;
}

static int parse_path(const char *text, struct config_args *args, FILE *errors)
{
    if (args->path) {
        return mistake(errors, "only one -c is possible: see include_dir", NULL);
    }
    if (*text == '\0') {
        return mistake(errors, "-c argument given, but no config file specified", NULL);
    }
    args->path = text;
    return 0;
}

/* The options without a value. */
static bool parse_switch(const char *arg, struct config_args *args)
{
    const struct {
        const char *brief, *full;
        bool *field;
    } switches[] = {
        {"-d", "--daemon", &args->daemon},
        {"-v", "--verbose", &args->verbose},
        {"-q", "--quiet", &args->quiet},
        {"-t", "--test-config", &args->test_config},
    };

    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        if (is_option(arg, switches[i].brief, switches[i].full)) {
            *switches[i].field = true;
            return true;
        }
    }
    return false;
}

static int parse_one(int argc, char **argv, int *i, struct config_args *args, FILE *errors)
{
    const char *arg = argv[*i];

    if (is_option(arg, "-c", "--config-file") || is_option(arg, "-p", "--port")) {
        bool port = arg[1] == 'p' || arg[2] == 'p';

        if (*i + 1 >= argc) {
            return mistake(errors,
                           port ? "-p argument given, but no port specified"
                                : "-c argument given, but no config file specified",
                           NULL);
        }
        ++*i;
        return port ? parse_port(argv[*i], args, errors) : parse_path(argv[*i], args, errors);
    }
    if (strcmp(arg, "--tls-keylog") == 0) {
        return mistake(errors, "--tls-keylog is not supported: keys of connections are never written down",
                       NULL);
    }
    return parse_switch(arg, args) ? 0 : mistake(errors, "Unknown option", arg);
}

int config_args_parse(int argc, char **argv, struct config_args *args, FILE *out, FILE *errors)
{
    memset(args, 0, sizeof *args);
    for (int i = 1; i < argc; i++) {
        int rc;

        if (is_option(argv[i], "-h", "--help")) {
            print_usage(out);
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            fputs("bramble " BRAMBLE_VERSION "\n", out);
            return 0;
        }
        rc = parse_one(argc, argv, &i, args, errors);
        if (rc) {
            return rc;
        }
    }
    if (args->test_config && !args->path) {
        return mistake(errors, "--test-config needs a configuration file (-c FILE)", NULL);
    }
    return CONFIG_ARGS_RUN;
}
