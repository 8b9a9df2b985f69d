/*
 * cert_tool.c - `bramble cert`: certificates for a home network without knowing OpenSSL.
 *
 *   bramble cert init DIR [--name NAME]... [--days N] [--force]    CA and server certificate
 *   bramble cert server DIR [--name NAME]... [--days N]            a new server certificate from that CA
 *   bramble cert client DIR NAME [--days N]                        a client's certificate from that CA
 *   bramble cert show FILE                                         what a certificate says
 */
#include "tls/cert.h"
#include "tls/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, INFO_SPACE = 8192 };

struct args {
    const char *command, *dir, *client;
    const char *names[CERT_NAMES_MAX + 1];
    int name_count, days;
    bool force, help;
};

static const char usage[] =
    "bramble cert init DIR [--name NAME]... [--days N] [--force]\n"
    "    makes DIR/ca.crt, ca.key (a CA of your own), server.crt and server.key. NAMEs are the host names "
    "and\n"
    "    addresses that clients connect to; without any: localhost and this machine's names and addresses.\n"
    "bramble cert server DIR [--name NAME]... [--days N]\n"
    "    makes a new server.crt and server.key from the CA in DIR. Clients that know the CA need nothing "
    "new.\n"
    "bramble cert client DIR NAME [--days N]\n"
    "    makes DIR/NAME.crt and NAME.key, for listeners with require_certificate true.\n"
    "bramble cert show FILE\n"
    "    prints the certificates in FILE.\n";

static int wrong(const char *text, const char *what)
{
    fprintf(stderr, "bramble cert: %s%s\nSee: bramble cert --help\n", text, what);
    return -1;
}

static int parse_days(const char *text, int *days)
{
    char *end = NULL;
    long n = text ? strtol(text, &end, 10) : 0;

    if (!text || *end || n < 1 || n > 36500)
        return wrong("--days needs a number of days, not ", text ? text : "nothing");
    *days = (int)n;
    return 0;
}

/* Also --name=NAME; the value may be in the next argument. */
static bool is_option(const char *arg, const char *option, char **argv, int *i, const char **value)
{
    size_t len = strlen(option);

    if (strncmp(arg, option, len) != 0 || (arg[len] && arg[len] != '='))
        return false;
    *value = arg[len] ? arg + len + 1 : argv[*i + 1];
    if (!arg[len] && *value)
        ++*i;
    return true;
}

static int parse_args(struct args *args, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value;

        if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) {
            args->help = true;
        } else if (strcmp(arg, "--force") == 0) {
            args->force = true;
        } else if (is_option(arg, "--days", argv, &i, &value)) {
            if (parse_days(value, &args->days))
                return -1;
        } else if (is_option(arg, "--name", argv, &i, &value)) {
            if (!value || args->name_count == CERT_NAMES_MAX)
                return wrong(value ? "too many names" : "--name needs a name", "");
            args->names[args->name_count++] = value;
        } else if (*arg == '-') {
            return wrong("there is no option ", arg);
        } else if (!args->command) {
            args->command = arg;
        } else if (!args->dir) {
            args->dir = arg;
        } else if (!args->client && strcmp(args->command, "client") == 0) {
            args->client = arg;
        } else {
            return wrong("one argument too many: ", arg);
        }
    }
    return 0;
}

static int fail(const struct err *err)
{
    fprintf(stderr, "bramble cert: %s\n", err->text);
    return EXIT_FAILURE;
}

static int run_init(const struct args *args)
{
    struct err err;

    if (!args->force && (cert_exists(args->dir, "ca.crt") || cert_exists(args->dir, "server.crt"))) {
        fprintf(stderr,
                "bramble cert: there are certificates in %s already.\n"
                "A new server certificate from the same CA: bramble cert server %s\n"
                "All anew (every client must then be given the new ca.crt): --force\n",
                args->dir, args->dir);
        return EXIT_FAILURE;
    }
    if (cert_make_missing(args->dir, args->names, args->days, args->force, &err))
        return fail(&err);
    printf("%s/ca.crt      the CA's certificate: give this one to your clients and browsers\n"
           "%s/ca.key      the CA's key: keep it secret; who has it can impersonate anybody to them\n"
           "%s/server.crt  certfile of the listener\n"
           "%s/server.key  keyfile of the listener\n",
           args->dir, args->dir, args->dir, args->dir);
    return EXIT_SUCCESS;
}

static int run_server(const struct args *args)
{
    struct cert_names names = {.count = 0};
    struct err err;
    int ret = 0;

    for (int i = 0; i < args->name_count && !ret; i++)
        ret = cert_names_add(&names, args->names[i], &err);
    if (!args->name_count)
        ret = cert_names_default(&names, &err);
    if (!ret)
        ret = cert_make_server(args->dir, &names, args->days, false, &err);
    if (!ret)
        printf("%s/server.crt is new, for:", args->dir);
    for (int i = 0; i < names.count && !ret; i++)
        printf(" %s", names.name[i]);
    if (!ret)
        printf("\nA running broker takes them over with SIGHUP.\n");
    cert_names_free(&names);
    return ret ? fail(&err) : EXIT_SUCCESS;
}

static int run_client(const struct args *args)
{
    struct err err;

    if (cert_make_client(args->dir, args->client, args->days, &err))
        return fail(&err);
    printf("%s/%s.crt and %s.key are for the client, with %s/ca.crt\n", args->dir, args->client, args->client,
           args->dir);
    return EXIT_SUCCESS;
}

static int show_one(const mbedtls_x509_crt *crt)
{
    char info[INFO_SPACE], sha256[65];
    char *subject = cert_name_rfc2253(&crt->subject);
    int ret = -1;

    if (subject && mbedtls_x509_crt_info(info, sizeof info, "  ", crt) > 0 && cert_sha256(crt, sha256) == 0) {
        printf("%s\n%s  SHA-256           : %s\n", subject, info, sha256);
        ret = 0;
    }
    free(subject);
    return ret;
}

static int run_show(const struct args *args)
{
    mbedtls_x509_crt list;
    struct tls_blob blob;
    struct err err;
    int ret;

    if (tls_library_start(&err) || tls_file_read(args->dir, &blob, &err))
        return fail(&err);
    mbedtls_x509_crt_init(&list);
    ret = mbedtls_x509_crt_parse(&list, blob.data, tls_blob_size(&blob));
    tls_blob_free(&blob);
    if (ret < 0)
        err_set(&err, "%s: is no certificate that can be read", args->dir);
    for (const mbedtls_x509_crt *crt = &list; crt && ret >= 0; crt = crt->next) {
        if (show_one(crt))
            ret = err_set(&err, "%s: could not be shown", args->dir);
    }
    mbedtls_x509_crt_free(&list);
    return ret < 0 ? fail(&err) : EXIT_SUCCESS;
}

/* argv[0] is "cert". */
int cert_tool(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct args *args);
    } commands[] = {{"init", run_init}, {"server", run_server}, {"client", run_client}, {"show", run_show}};
    struct args args = {0};

    if (parse_args(&args, argc, argv))
        return EXIT_USAGE;
    if (args.help) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; args.command && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, args.command) != 0)
            continue;
        if (!args.dir || (commands[i].run == run_client && !args.client)) {
            wrong("an argument is missing after ", args.command);
            return EXIT_USAGE;
        }
        return commands[i].run(&args);
    }
    fputs(usage, stderr);
    return EXIT_USAGE;
}
