/*
 * service.h - being a daemon: systemd's notifications and sockets, going to the background, pid file,
 * privileges, limits.
 *
 * All of it is called from main.c's thread. What forks or changes the process's user (service_daemonise,
 * service_drop_privileges) is called before the first thread is made.
 */
#ifndef BRAMBLE_SERVICE_H
#define BRAMBLE_SERVICE_H

#include "broker/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- notifications (sd_notify) --- */

/* Makes a socket to notify with, so that it can be done when all descriptors are in use; the caller's to
 * close. 0, also when nobody wants to know (*fd is -1 then); -1 with err. */
int service_notify_socket(int *fd, struct err *err);

/* Sends "NAME=value" lines to the socket in NOTIFY_SOCKET, through fd; with -1 through one of its own. Never
 * blocks. 1 when sent, 0 when nobody wants to know, -1 with err (a full socket included). The ones below do
 * the same with the messages that a broker needs. */
int service_notify(int fd, const char *message, struct err *err);
int service_notify_ready(int fd, struct err *err);
/* At the beginning of a reload (with the time, as Type=notify-reload asks); service_notify_ready() ends it.
 */
int service_notify_reloading(int fd, struct err *err);
int service_notify_stopping(int fd, struct err *err);
/* One line for `systemctl status`; a control character in text becomes '?'. */
int service_notify_status(int fd, const char *text, struct err *err);
int service_notify_watchdog(int fd, struct err *err);

/* How often systemd wants to hear from us, in microseconds; 0: never. Send service_notify_watchdog() twice as
 * often. */
uint64_t service_watchdog_us(void);

/* --- sockets from systemd (LISTEN_FDS) --- */

struct service_fd {
    int fd;         /* close-on-exec and non-blocking are set; the caller's to close */
    char name[256]; /* FileDescriptorName= of the socket unit, "unknown" without one */
};

/* The sockets that were handed over, in *fds (to be freed with free()), and their number: 0 when there are
 * none or they are meant for another process. -1 with err for a broken environment or descriptor. The
 * variables are removed, so nobody takes the sockets twice. */
int service_listen_fds(struct service_fd **fds, struct err *err);

/* --- the background --- */

/* Opens /dev/null for those of the descriptors 0, 1, 2 that are closed, so that no socket ever gets such a
 * number. To be called first of all. 0, or -1 with err. */
int service_std_fds(struct err *err);

/* Forks; returns in the child, in a session of its own: 0 with *ready set, or -1 with err (still in the
 * foreground). The parent does not return: it waits for service_daemon_ready() and then exits 0, or exits as
 * the child did (1 when a signal ended it). So whoever starts the daemon knows whether it has started, and
 * errors still reach the terminal. The working directory stays: relative names in the configuration must
 * still be found at a reload. */
int service_daemonise(int *ready, struct err *err);

/* Lets the parent go, and standard input, output and error to /dev/null. ready is closed. 0, or -1 with err.
 */
int service_daemon_ready(int ready, struct err *err);

/* --- pid file --- */

/* Writes the process's number to path, as a whole or not at all; a file that is there is replaced. 0, or -1
 * with err. */
int service_pid_file_write(const char *path, struct err *err);

/* Removes it, if it still has our number in it. */
void service_pid_file_remove(const char *path);

/* --- privileges and limits --- */

/* As root: becomes user, with its groups, for good. 0, also when there is nothing to do (not root; user NULL,
 * "" or "root"); -1 with err when the user is unknown or when root's rights could not be given up or could be
 * had again: the caller must not go on then. */
int service_drop_privileges(const char *user, struct err *err);

/* Raises the number of descriptors that may be open to at least `wanted`; never lowers it. Returns what it is
 * now (at most INT64_MAX), or -1 with err when it stays below `wanted`, in words that say what to change. */
int64_t service_raise_nofile(uint64_t wanted, struct err *err);

#endif
