/*
 * fuzz_config.c - any bytes as a configuration file, and (behind a line of "====") as a second file that the
 * first may include: "@" there stands for its folder.
 *
 * A file that is taken says the same when it is printed and read again, and a reload between the two finds
 * nothing that differs; its values are within their bounds. One that is not taken is refused with a file, a
 * line and a reason.
 */
#include "broker/config.h"
#include "config/table.h"
#include "test/fuzz/fuzz.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/dev/shm/bramble-fuzz-XXXXXX";
static char included[64];

static void remove_folder(void)
{
    unlink(included);
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    fuzz_log_start();
    CHECK(mkdtemp(folder));
    snprintf(included, sizeof included, "%s/10.conf", folder);
    atexit(remove_folder);
    return 0;
}

static void put(int fd, const void *p, size_t n)
{
    CHECK(n == 0 || write(fd, p, n) == (ssize_t)n);
}

/* "@" becomes the folder. */
static void put_main(int fd, struct slice text)
{
    while (text.n > 0) {
        const uint8_t *at = memchr(text.p, '@', text.n);
        size_t n = at ? (size_t)(at - text.p) : text.n;
        put(fd, text.p, n);
        if (at) {
            put(fd, folder, strlen(folder));
            n++;
        }
        text = slice_of(text.p + n, text.n - n);
    }
}

static int file_new(char *path, size_t size)
{
    int fd = memfd_create("conf", MFD_CLOEXEC);
    CHECK(fd >= 0);
    snprintf(path, size, "/proc/self/fd/%d", fd);
    return fd;
}

static void warned(void *ctx, const char *text)
{
    (void)ctx;
    CHECK(strstr(text, "Warning: ") && !strchr(text, '\n'));
}

static struct config *load(const char *path, struct err *err)
{
    struct config_args args = {.path = path};
    *err = (struct err){""};
    return config_load(&args, warned, NULL, err);
}

/* FILE:LINE: Error: REASON, of a file that was read */
static void check_complaint(const char *path, const char *text)
{
    const char *error = strstr(text, ": Error: ");
    CHECK(text[0] == '/' && error && error[9] && !strchr(text, '\n'));
    size_t n = strlen(path);
    if (strncmp(text, path, n) == 0 && text[n] == ':') {
        CHECK(text[n + 1] >= '1' && text[n + 1] <= '9');
    }
}

static void check_values(const struct config *config)
{
    CHECK(config->listener_count > 0 && config->security_count > 0);
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        CHECK(l->number == i && l->port >= 0 && l->port <= 65535 && (l->port > 0) == !l->unix_path);
        CHECK(l->max_qos >= 0 && l->max_qos <= 2 && l->max_connections >= -1);
        CHECK(l->security >= config->securities && l->security < config->securities + config->security_count);
        CHECK(!l->tls || (l->certfile && l->keyfile));
        CHECK(l->tls || (!l->require_certificate && !l->use_identity_as_username));
    }
    CHECK(config->max_topic_levels >= 1 && config->connect_timeout >= 1 && config->handshake_timeout >= 1);
    CHECK(config->max_packet_size == 0 || config->max_packet_size >= 20);
    CHECK(config->persistent_client_expiration >= 0 &&
          config->persistent_client_expiration <= INT64_MAX / 1000);
}

static char *print(const struct config *config, size_t *n)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, n);
    CHECK(out);
    config_print(config, out);
    fclose(out);
    return text;
}

static void no_difference(void *ctx, const char *text)
{
    (void)ctx;
    fprintf(stderr, "differs: %s\n", text);
    abort();
}

static void check_again(const struct config *config)
{
    char path[32];
    size_t n, m;
    struct err err;
    char *text = print(config, &n);
    int fd = file_new(path, sizeof path);
    put(fd, text, n);
    struct config *again = load(path, &err);
    if (!again) {
        fprintf(stderr, "%s\n%s\n", err.text, text);
    }
    CHECK(again);
    char *twice = print(again, &m);
    CHECK(n == m && memcmp(text, twice, n) == 0);
    CHECK(config_same_listeners(config, again));
    config_diff(config, again, no_difference, NULL);
    config_free(again);
    close(fd);
    free(text);
    free(twice);
}

static void put_included(struct slice text)
{
    int fd = open(included, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    put(fd, text.p, text.n);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char cut[] = "\n====\n";
    struct slice text = slice_of(data, size), second = slice_of(data, 0);
    const uint8_t *at = size ? memmem(data, size, cut, sizeof cut - 1) : NULL;
    char path[32];
    struct err err;
    if (at) {
        text.n = (size_t)(at - data) + 1;
        second = slice_of(at + sizeof cut - 1, size - text.n - (sizeof cut - 2));
    }
    put_included(second);
    int fd = file_new(path, sizeof path);
    put_main(fd, text);
    struct config *config = load(path, &err);
    if (config) {
        check_values(config);
        check_again(config);
    } else {
        check_complaint(path, err.text);
    }
    config_free(config);
    close(fd);
    return 0;
}
