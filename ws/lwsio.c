/*
 * lwsio.c - the socket calls of libwebsockets, which are not the system's.
 *
 * In our build of libwebsockets recv, send, poll, shutdown and close carry the names below (objcopy, see
 * .ci/deps.sh). A descriptor that belongs to a ws_conn leads to the transport below it, plain or TLS; any
 * other (the event pipe, files) leads to the system. libwebsockets knows connections by descriptor only, so
 * there has to be one table for the process: it is the one global of ws/.
 */
#include "ws/ws_conn.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    struct ws_conn **conns; /* by descriptor */
    int size;
    int users;
} table;

int lwsio_open(int max_fds)
{
    if (max_fds > table.size) {
        struct ws_conn **conns = calloc((size_t)max_fds, sizeof *conns); /* not touched, so not resident */
        if (!conns)
            return -1;
        if (table.size > 0)
            memcpy(conns, table.conns, (size_t)table.size * sizeof *conns);
        free(table.conns);
        table.conns = conns;
        table.size = max_fds;
    }
    table.users++;
    return 0;
}

void lwsio_release(void)
{
    if (--table.users > 0)
        return;
    free(table.conns);
    table.conns = NULL;
    table.size = 0;
}

void lwsio_set(int fd, struct ws_conn *conn)
{
    if (fd >= 0 && fd < table.size)
        table.conns[fd] = conn;
}

static struct ws_conn *lwsio_conn(int fd)
{
    return fd >= 0 && fd < table.size ? table.conns[fd] : NULL;
}

static ssize_t lwsio_result(ssize_t n)
{
    if (n >= 0)
        return n;
    errno = (int)-n;
    return -1;
}

ssize_t lwsio_recv(int fd, void *buf, size_t n, int flags)
{
    struct ws_conn *conn = lwsio_conn(fd);

    return conn ? lwsio_result(ws_conn_recv(conn, buf, n)) : recv(fd, buf, n, flags);
}

ssize_t lwsio_send(int fd, const void *buf, size_t n, int flags)
{
    struct ws_conn *conn = lwsio_conn(fd);

    return conn ? lwsio_result(ws_conn_send(conn, buf, n)) : send(fd, buf, n, flags | MSG_NOSIGNAL);
}

/* libwebsockets asks for one descriptor, without waiting, whether it is writable. */
int lwsio_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct ws_conn *conn = n == 1 ? lwsio_conn(fds->fd) : NULL;

    if (!conn)
        return poll(fds, n, timeout);
    fds->revents = ws_conn_can_send(conn) ? (short)(fds->events & POLLOUT) : 0;
    return fds->revents ? 1 : 0;
}

/* The lower transport ends its stream in order when it is closed, which libwebsockets does right after this.
 */
int lwsio_shutdown(int fd, int how)
{
    return lwsio_conn(fd) ? 0 : shutdown(fd, how);
}

int lwsio_close(int fd)
{
    struct ws_conn *conn = lwsio_conn(fd);

    if (!conn)
        return close(fd);
    lwsio_set(fd, NULL);
    ws_conn_lws_closed(conn);
    return 0;
}
