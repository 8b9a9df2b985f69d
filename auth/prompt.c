/*
 * prompt.c - reads a password from standard input (see prompt.h).
 *
 * The hard part is Ctrl-C while the echo is off: the terminal must get it back first. So the signals that end
 * or stop us are blocked and watched through a descriptor; when one comes, the terminal is put right, and
 * then the signal let through. No handler, no global.
 */
#include "auth/prompt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* One line from standard input, a byte at a time so that nothing is taken that belongs to the next reader. */
static int read_line(char *out, size_t size, struct err *err)
{
    size_t n = 0;
    char c = 0;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, &c, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(err, "standard input: %s", strerror(errno));
        if (got == 0 || c == '\n')
            break;
        if (c == 0)
            return err_set(err, "a password must not hold a zero byte");
        if (n + 1 >= size)
            return err_set(err, "the password is too long (at most %zu bytes)", size - 1);
        out[n++] = c;
    }
    while (n && out[n - 1] == '\r')
        n--;
    out[n] = 0;
    return n ? 0 : err_set(err, "empty password");
}

/* Until a line can be read or a signal came. True: a line. */
static bool wait_for_line(int signals)
{
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    return !fds[1].revents;
}

static int ask(const char *question, char *out, size_t size, struct err *err)
{
    struct termios before, quiet;
    sigset_t watched, mask;
    sigemptyset(&watched);
    for (const int *s = (const int[]){SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, 0}; *s; s++)
        sigaddset(&watched, *s);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC);
    if (signals < 0 || tcgetattr(STDIN_FILENO, &before) != 0)
        return err_set(err, "terminal: %s", strerror(errno));
    for (;;) {
        fprintf(stderr, "%s", question);
        sigprocmask(SIG_BLOCK, &watched, &mask);
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        bool line = wait_for_line(signals);
        int rc = line ? read_line(out, size, err) : 0;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fprintf(stderr, "\n");
        sigprocmask(SIG_SETMASK, &mask,
                    NULL); /* a signal that came takes us away here; after a stop we ask again */
        if (line) {
            close(signals);
            return rc;
        }
    }
}

int prompt_password(char *out, size_t size, struct err *err)
{
    char again[65536];
    if (!isatty(STDIN_FILENO))
        return read_line(out, size, err);
    int rc = ask("Password: ", out, size, err);
    if (rc == 0)
        rc = ask("Reenter password: ", again, sizeof again, err);
    if (rc == 0 && strcmp(out, again) != 0)
        rc = err_set(err, "the two passwords are not the same");
    sodium_memzero(again, sizeof again);
    return rc;
}
