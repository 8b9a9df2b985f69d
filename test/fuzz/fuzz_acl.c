/*
 * fuzz_acl.c - any bytes as an acl_file and as names.
 *
 * The input is four parts, ended by newlines but for the last: user, client id, topic, acl_file. The file is
 * loaded and asked. Then its first line alone is taken as the filter of a pattern, and what the loaded
 * pattern says is compared with the plain way: put in the names, and match the result as a filter.
 */
#include "auth/lines.h"
#include "broker/acl.h"
#include "broker/log.h"
#include "broker/topic.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    static const struct log_options silent = {0};
    return log_start(&silent, NULL);
}

static struct acl *load(const char *start, struct slice text)
{
    char path[32];
    struct err err = {""};
    int fd = memfd_create("acl", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || fchmod(fd, 0600) != 0 || write(fd, start, strlen(start)) < 0 ||
        write(fd, text.p, text.n) < 0)
        abort();
    struct acl *acl = acl_load(path, &err);
    if (!acl && strncmp(err.text, path, strlen(path)) != 0)
        abort();
    close(fd);
    return acl;
}

/* The next line of the input, without its newline. */
static struct slice next_line(struct slice *rest)
{
    const uint8_t *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    struct slice line = slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
    *rest = slice_of(rest->p + line.n + (end ? 1 : 0), rest->n - line.n - (end ? 1 : 0));
    return line;
}

/* As a C string: names have no zero bytes, the codec sees to that. */
static char *name_of(struct slice s)
{
    char *name = calloc(1, s.n + 1);
    if (!name)
        abort();
    for (size_t i = 0; i < s.n; i++)
        name[i] = (char)(s.p[i] ? s.p[i] : '0');
    return name;
}

static bool plain_way(struct slice filter, const struct principal *who, struct slice topic)
{
    size_t user_n = strlen(who->user), client_n = strlen(who->client_id), n = 0;
    uint8_t *expanded = malloc(filter.n * (user_n + client_n + 1) + 1);
    if (!expanded)
        abort();
    for (size_t i = 0; i < filter.n; i++) {
        uint8_t next = i + 1 < filter.n ? filter.p[i + 1] : 0;
        if (filter.p[i] == '%' && (next == 'u' || next == 'c')) {
            const char *name = next == 'u' ? who->user : who->client_id;
            memcpy(expanded + n, name, strlen(name));
            n += strlen(name);
            i++;
        } else {
            expanded[n++] = filter.p[i];
        }
    }
    bool yes = n && topic_matches(slice_of(expanded, n), topic);
    free(expanded);
    return yes;
}

static void compare(struct slice filter, const struct principal *who, struct slice topic)
{
    struct slice trimmed = lines_trim(filter);
    struct acl *acl = trimmed.n == filter.n && filter.n ? load("pattern read ", filter) : NULL;
    bool dangerous = strpbrk(who->user, "+#") || strpbrk(who->client_id, "+#");
    bool dollar_share = topic.n >= 6 && memcmp(topic.p, "$share", 6) == 0;
    if (acl && !dollar_share &&
        acl_allows(acl, who, ACL_READ, topic) != (!dangerous && plain_way(filter, who, topic)))
        abort();
    acl_unref(acl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    char *user = name_of(next_line(&rest)), *client = name_of(next_line(&rest));
    struct slice topic = next_line(&rest);
    struct principal who = {.user = user, .client_id = client}, anonymous = {.client_id = client};

    struct acl *acl = load("", rest);
    if (acl) {
        for (int access = ACL_READ; access <= ACL_SUBSCRIBE; access++) {
            acl_allows(acl, &who, access, topic);
            acl_allows(acl, &anonymous, access, topic);
        }
        acl_unref(acl);
    }
    if (topic_name_valid(topic))
        compare(next_line(&rest), &who, topic);
    free(user);
    free(client);
    return 0;
}
