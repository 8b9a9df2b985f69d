/*
 * passwd_tool.c - `bramble passwd`, with mosquitto_passwd's arguments, so that scripts and guides keep
 * working.
 *
 *   arguments -> struct job -> a password (argument, prompt, standard input or a new token) -> pwhash ->
 *   passwd_file
 *
 * What differs from mosquitto_passwd 2.0: argon2id is the default (as in 2.1), -U leaves hashes alone instead
 * of hashing them again, an empty password is refused, and the file is replaced as one step.
 */
#include "auth/passwd_tool.h"

#include "auth/passwd_file.h"
#include "auth/prompt.h"
#include "auth/pwhash.h"
#include "broker/topic.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum {
    USER_MAX = 65000, /* with its hash it must fit into a line of a password file */
    PASSWORD_MAX = 65535,
};

struct job {
    bool batch, create, remove, upgrade, token, help;
    bool kind_given;
    enum pwhash_kind kind;
    unsigned iterations; /* 0: not given */
    const char *path, *user, *password;
};

static const char usage_text[] =
    "bramble passwd: changes the users of a password file (made like mosquitto's).\n"
    "\n"
    "Usage: bramble passwd [-H KIND] [-I N] [-c] FILE USER          asks for the password\n"
    "       bramble passwd [-H KIND] [-I N] [-c] -b FILE USER PASSWORD\n"
    "       bramble passwd [-c] --token FILE USER\n"
    "       bramble passwd -D FILE USER\n"
    "       bramble passwd [-H KIND] [-I N] -U FILE\n"
    " -b : the password is on the command line, where other users of this machine can see it.\n"
    " -c : make a new file; one that is there is overwritten. With - as FILE the line goes to standard "
    "output.\n"
    " -D : delete the user.\n"
    " -H : kind of hash: argon2id (the default), sha512-pbkdf2 (for mosquitto 2.0), sha512 (weak; for "
    "mosquitto 1.6).\n"
    " -I : iterations of sha512-pbkdf2 (210000 if not given). Without -H it chooses sha512-pbkdf2.\n"
    " -U : hash all passwords that stand in the file in plain text.\n"
    " --token : make a random password for a device and show it, this once, on standard output. It is "
    "checked fast.\n"
    " -h : this text.\n"
    "Without a terminal the password is the first line of standard input. A running broker reads the file on "
    "SIGHUP.\n";

static int complain(const char *what)
{
    fprintf(stderr, "Error: %s\n", what);
    return -1;
}

static int parse_kind(struct job *job, const char *text)
{
    if (!text)
        return complain("-H needs the name of a hash after it.");
    if (strcmp(text, "argon2id") == 0)
        job->kind = PWHASH_ARGON2ID;
    else if (strcmp(text, "sha512-pbkdf2") == 0)
        job->kind = PWHASH_PBKDF2;
    else if (strcmp(text, "sha512") == 0)
        job->kind = PWHASH_SHA512;
    else
        return complain("unknown hash after -H (known are argon2id, sha512-pbkdf2 and sha512).");
    job->kind_given = true;
    return 0;
}

static int parse_iterations(struct job *job, const char *text)
{
    char *end = NULL;
    errno = 0;
    unsigned long n = text ? strtoul(text, &end, 10) : 0;
    if (!text || *text < '0' || *text > '9' || *end || errno || n < 1 || n > PWHASH_ITERATIONS_MAX)
        return complain("-I needs a number from 1 to 10000000 after it.");
    job->iterations = (unsigned)n;
    return 0;
}

/* Options come first, as with mosquitto_passwd. Returns the index of the first argument that is none, or -1.
 */
static int parse_options(struct job *job, int argc, char **argv)
{
    int i;
    for (i = 1; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
            job->help = true;
        else if (strcmp(argv[i], "-b") == 0)
            job->batch = true;
        else if (strcmp(argv[i], "-c") == 0)
            job->create = true;
        else if (strcmp(argv[i], "-D") == 0)
            job->remove = true;
        else if (strcmp(argv[i], "-U") == 0)
            job->upgrade = true;
        else if (strcmp(argv[i], "--token") == 0)
            job->token = true;
        else if (strcmp(argv[i], "-H") == 0 && parse_kind(job, value) == 0)
            i++;
        else if (strcmp(argv[i], "-I") == 0 && parse_iterations(job, value) == 0)
            i++;
        else if (strcmp(argv[i], "-H") == 0 || strcmp(argv[i], "-I") == 0)
            return -1;
        else
            return complain("unknown option (bramble passwd -h lists them).");
    }
    return i;
}

static int check_combination(struct job *job)
{
    if (job->create + job->remove + job->upgrade > 1)
        return complain("-c, -D and -U cannot be used together.");
    if (job->batch && (job->remove || job->upgrade))
        return complain("-b cannot be used with -D or -U.");
    if (job->token && (job->batch || job->remove || job->upgrade || job->kind_given || job->iterations))
        return complain("--token can be used with -c only.");
    if (job->token)
        job->kind = PWHASH_TOKEN;
    if (job->iterations && !job->kind_given)
        job->kind = PWHASH_PBKDF2;
    if (job->iterations && job->kind != PWHASH_PBKDF2)
        return complain("-I is for -H sha512-pbkdf2 only.");
    if (!job->iterations)
        job->iterations = PWHASH_ITERATIONS_NEW;
    return 0;
}

static int parse(struct job *job, int argc, char **argv)
{
    int i = parse_options(job, argc, argv);
    if (i < 0 || job->help)
        return i < 0 ? -1 : 0;
    if (check_combination(job) != 0)
        return -1;
    int wanted = job->upgrade ? 1 : job->batch ? 3 : 2;
    if (argc - i != wanted)
        return complain(
            job->upgrade ? "-U wants FILE after it, and nothing else."
            : job->batch ? "-b wants FILE USER PASSWORD after it."
            : job->remove
                ? "-D wants FILE USER after it."
                : "wanted are FILE USER (bramble passwd -h tells more; -b takes the password too).");
    job->path = argv[i];
    job->user = wanted > 1 ? argv[i + 1] : NULL;
    job->password = wanted > 2 ? argv[i + 2] : NULL;
    if (strcmp(job->path, "-") == 0 && !job->create)
        return complain("- as FILE (standard output) goes with -c only.");
    if (strcmp(job->path, "-") == 0 && job->token)
        return complain("--token wants a FILE: standard output is for the token itself.");
    return 0;
}

/* Only names that the loader will read back as they are. */
static int check_user(const char *user, struct err *err)
{
    size_t n = strlen(user);
    if (n == 0)
        return err_set(err, "the user name is empty");
    if (n > USER_MAX)
        return err_set(err, "the user name is too long (at most %d bytes)", USER_MAX);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)user[i] < ' ' || user[i] == 0x7f || user[i] == ':')
            return err_set(err, "a user name must not hold control characters or colons");
    if (user[0] == '#' || user[0] == ' ' || user[n - 1] == ' ')
        return err_set(err, "a user name must not start with # nor start or end with a space");
    if (!utf8_valid(slice_str(user)))
        return err_set(err, "the user name is not UTF-8");
    return 0;
}

static int make_hash(const struct job *job, const char *password, char out[PWHASH_TEXT_MAX], struct err *err)
{
    size_t n = strlen(password);
    if (n == 0)
        return err_set(err, "empty password");
    if (n > PASSWORD_MAX)
        return err_set(err, "the password is too long (at most %d bytes)", PASSWORD_MAX);
    if (job->kind != PWHASH_TOKEN && pwhash_is_token(slice_str(password)))
        return err_set(err,
                       "this password has the form of a device token, and such passwords are tokens only "
                       "(a new one is made by: bramble passwd --token FILE USER)");
    if (!pwhash_init() || pwhash_make(job->kind, job->iterations, slice_str(password), out) != 0)
        return err_set(err, "out of memory");
    return 0;
}

/* The token is shown when it counts, not before. */
static int set_token(const struct job *job, struct err *err)
{
    char token[PWHASH_TOKEN_LEN + 1], hash[PWHASH_TEXT_MAX];
    if (!pwhash_init())
        return err_set(err, "no source of randomness");
    pwhash_new_token(token);
    int rc = make_hash(job, token, hash, err);
    if (rc == 0)
        rc = passwd_file_set(job->path, job->create ? PASSWD_FILE_START_ANEW : PASSWD_FILE_MUST_EXIST,
                             job->user, hash, err);
    if (rc == 0 && (printf("%s\n", token) < 0 || fflush(stdout) != 0))
        rc = err_set(err, "the token is set but could not be shown: make another one");
    else if (rc == 0)
        fprintf(stderr,
                "This is the password of \"%s\" from the broker's next SIGHUP on. It is not shown again.\n",
                job->user);
    sodium_memzero(token, sizeof token);
    return rc;
}

static int set(const struct job *job, struct err *err)
{
    char typed[PASSWORD_MAX + 1], hash[PWHASH_TEXT_MAX];
    const char *password = job->password;
    if (!password) {
        if (prompt_password(typed, sizeof typed, err) != 0)
            return -1;
        password = typed;
    }
    int rc = make_hash(job, password, hash, err);
    sodium_memzero(typed, sizeof typed);
    if (rc != 0)
        return -1;
    if (strcmp(job->path, "-") == 0)
        return printf("%s:%s\n", job->user, hash) > 0 && fflush(stdout) == 0
                   ? 0
                   : err_set(err, "standard output");
    return passwd_file_set(job->path, job->create ? PASSWD_FILE_START_ANEW : PASSWD_FILE_MUST_EXIST,
                           job->user, hash, err);
}

int passwd_tool(int argc, char **argv)
{
    struct job job = {.kind = PWHASH_ARGON2ID};
    struct err err = {""};
    int rc;
    if (argc < 2) {
        fputs(usage_text, stdout);
        return 1;
    }
    if (parse(&job, argc, argv) != 0)
        return 1;
    if (job.help) {
        fputs(usage_text, stdout);
        return 0;
    }
    if (job.user && check_user(job.user, &err) != 0 && !job.remove)
        rc = -1;
    else if (job.remove)
        rc = passwd_file_delete(job.path, job.user, &err);
    else if (job.upgrade)
        rc = passwd_file_upgrade(job.path, job.kind, job.iterations, &err);
    else
        rc = job.token ? set_token(&job, &err) : set(&job, &err);
    if (rc != 0)
        fprintf(stderr, "Error: %s\n", err.text);
    return rc == 0 ? 0 : 1;
}

int passwd_set(const char *path, const char *user, const char *password, struct err *err)
{
    struct job job = {.kind = PWHASH_ARGON2ID};
    char hash[PWHASH_TEXT_MAX];
    if (check_user(user, err) != 0 || make_hash(&job, password, hash, err) != 0)
        return -1;
    return passwd_file_set(path, PASSWD_FILE_MAY_CREATE, user, hash, err);
}

void passwd_random(char out[21])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if (!pwhash_init())
        abort(); /* no randomness: nothing that is safe could be returned */
    for (int i = 0; i < 20; i++)
        out[i] = letters[randombytes_uniform(sizeof letters - 1)];
    out[20] = 0;
}
