/*
 * listener.c - listening sockets. See listener.h.
 *
 * One door of the configuration may be several sockets (IPv4 and IPv6). When descriptors run out, accepting
 * pauses for a second and says so once: a readable listening socket that cannot be accepted from would
 * otherwise spin the loop.
 */
#include "broker/listener.h"
#include "broker/conn.h"
#include "broker/log.h"
#include "broker/transport_tcp.h"
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, ACCEPT_AT_ONCE = 32, PAUSE_MS = 1000 };

struct listener {
    struct listener *next;
    struct listeners *all;
    int door;
    int fd;
    struct watch watch;
    char *unlink; /* the Unix socket's path */
    char name[INET6_ADDRSTRLEN + 2];
};

struct listeners {
    struct broker *broker;
    listener_stack *stack;
    void *arg;
    struct listener *first;
    struct timer pause;
    bool said;      /* that there are no descriptors */
    bool reloading; /* the reload has the spare ones: they are not for clients */
};

/* ---- accepting ---- */

static void watch_all(struct listeners *all, int events)
{
    for (struct listener *l = all->first; l; l = l->next) {
        watch_set(all->broker->loop, &l->watch, events);
    }
}

static void pause_over(void *arg)
{
    struct listeners *all = arg;
    conn_hold_greetings(all->broker, false);
    if (!all->reloading || !all->said) {
        watch_all(all, LOOP_READ);
    }
}

/* The errors of a connection that has gone already, or that a firewall ends: the next one may be good. */
static bool of_this_one(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EPERM:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

static void accept_failed(struct listeners *all, int error)
{
    if (error == EAGAIN) {
        return;
    }
    if (!all->said) {
        log_write(LOG_T_ERROR, "Cannot accept connections: %s. Accepting rests until that is better.",
                  strerror(error));
        all->said = true;
    }
    watch_all(all, 0);
    timer_start(all->broker->loop, &all->pause, PAUSE_MS);
}

static void accepted(struct listener *l, int fd, const struct sockaddr *address)
{
    struct listeners *all = l->all;
    struct broker *broker = all->broker;
    struct transport *t = transport_tcp_new(broker->loop, fd, address, broker->config->set_tcp_nodelay);
    t = t ? all->stack(all->arg, l->door, t) : NULL;
    if (t) {
        conn_accept(broker, t, l->door);
    } else {
        broker->counters.connects_refused++;
        if (strangers_line(&broker->strangers, NULL)) {
            log_write(LOG_T_ERROR, "Out of memory for a connection on listener %d.", l->door);
        }
    }
}

static void listener_readable(void *arg, int events)
{
    (void)events;
    struct listener *l = arg;
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        int fd = accept4(l->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && of_this_one(errno)) {
            continue;
        }
        if (fd < 0) {
            accept_failed(l->all, errno);
            return;
        }
        if (l->all->said) {
            log_write(LOG_T_NOTICE, "Connections are accepted again.");
            l->all->said = false;
        }
        accepted(l, fd, (const struct sockaddr *)&address);
    }
}

/* ---- opening ---- */

static int add_listener(struct listeners *all, int door, int fd, const char *name, const char *path)
{
    struct listener *l = calloc(1, sizeof *l);
    char *copy = path ? strdup(path) : NULL;
    if (!l || (path && !copy)) {
        free(l);
        free(copy);
        return -1;
    }
    *l = (struct listener){.all = all, .door = door, .fd = fd, .unlink = copy};
    snprintf(l->name, sizeof l->name, "%s", name);
    watch_init(&l->watch, fd, listener_readable, l);
    l->next = all->first;
    all->first = l;
    return 0;
}

static int fail(struct err *err, const struct config_listener *c, const char *address, const char *what,
                int error)
{
    const char *help = error == EADDRINUSE ? ": another program listens there; stop it or choose another port"
                       : error == EACCES   ? ": ports below 1024 need root or CAP_NET_BIND_SERVICE"
                       : error == EADDRNOTAVAIL ? ": this machine does not have that address"
                                                : "";
    if (c->file) {
        return err_set(err, "%s:%d: Error: cannot %s %s port %d: %s%s", c->file, c->line, what, address,
                       c->port, strerror(error), help);
    }
    return err_set(err, "Error: cannot %s %s port %d: %s%s", what, address, c->port, strerror(error), help);
}

static int set_options(int fd, const struct config_listener *c, int family)
{
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) {
        return -1;
    }
    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) {
        return -1;
    }
    return c->bind_interface ? setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, c->bind_interface,
                                          (socklen_t)strlen(c->bind_interface) + 1)
                             : 0;
}

/* 0: open; 1: this address family does not exist here; -1 with err. */
static int open_address(struct listeners *all, int door, const struct config_listener *c,
                        const struct addrinfo *a, struct err *err)
{
    char name[INET6_ADDRSTRLEN + 2] = "";
    getnameinfo(a->ai_addr, a->ai_addrlen, name, sizeof name, NULL, 0, NI_NUMERICHOST);
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno == EAFNOSUPPORT ? 1 : fail(err, c, name, "open a socket for", errno);
    }
    if (set_options(fd, c, a->ai_family) < 0) {
        fail(err, c, name, "set the options of the socket for", errno);
    } else if (bind(fd, a->ai_addr, a->ai_addrlen) < 0) {
        if (errno == EADDRNOTAVAIL && !c->host && a->ai_family == AF_INET6) {
            close(fd); /* IPv6 is switched off */
            return 1;
        }
        fail(err, c, name, "bind", errno);
    } else if (add_listener(all, door, fd, name, NULL) < 0) {
        err_set(err, "Error: out of memory for a listener");
    } else {
        return 0;
    }
    close(fd);
    return -1;
}

static int open_tcp(struct listeners *all, int door, const struct config_listener *c, struct err *err)
{
    static const int families[] = {
        [DOMAIN_ANY] = AF_UNSPEC, [DOMAIN_IPV4] = AF_INET, [DOMAIN_IPV6] = AF_INET6};
    struct addrinfo hints = {.ai_family = families[c->socket_domain], .ai_socktype = SOCK_STREAM};
    hints.ai_flags = c->loopback_only ? 0 : AI_PASSIVE; /* without a host: loopback, or all addresses */
    char port[16];
    snprintf(port, sizeof port, "%d", c->port);
    struct addrinfo *list;
    int error = getaddrinfo(c->host, port, &hints, &list);
    if (error) {
        return err_set(err, "%s:%d: Error: address '%s': %s", c->file ? c->file : "listener", c->line,
                       c->host ? c->host : "*", gai_strerror(error));
    }
    int opened = 0, result = 0;
    for (const struct addrinfo *a = list; a && result >= 0; a = a->ai_next) {
        result = open_address(all, door, c, a, err);
        opened += result == 0;
    }
    freeaddrinfo(list);
    if (result >= 0 && opened == 0) {
        return fail(err, c, c->host ? c->host : "*", "open", EAFNOSUPPORT);
    }
    return result < 0 ? -1 : 0;
}

/* A socket that nobody answers on is left over from a crash and goes; a file of another kind, or a live one,
 * stays. */
static int clear_stale(const char *path, const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        return 0;
    }
    int fd = S_ISSOCK(st.st_mode) ? socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
    bool dead = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
                errno == ECONNREFUSED;
    if (fd >= 0) {
        close(fd);
    }
    return dead ? unlink(path) : 0;
}

static int open_unix(struct listeners *all, int door, const struct config_listener *c, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(c->unix_path);
    if (n >= sizeof address.sun_path) {
        return fail(err, c, c->unix_path, "bind", ENAMETOOLONG);
    }
    memcpy(address.sun_path, c->unix_path, n);
    if (clear_stale(c->unix_path, &address) < 0) {
        return fail(err, c, c->unix_path, "remove the old socket", errno);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (!bound || listen(fd, BACKLOG) < 0) {
        fail(err, c, c->unix_path, "listen on", errno);
    } else if (add_listener(all, door, fd, "", c->unix_path) < 0) {
        err_set(err, "Error: out of memory for a listener");
    } else {
        return 0;
    }
    if (bound) {
        unlink(c->unix_path);
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

struct listeners *listeners_open(struct broker *broker, struct err *err)
{
    struct listeners *all = calloc(1, sizeof *all);
    if (!all) {
        err_set(err, "Error: out of memory for the listeners");
        return NULL;
    }
    all->broker = broker;
    timer_setup(&all->pause, pause_over, all);
    for (size_t i = 0; i < broker->config->listener_count; i++) {
        const struct config_listener *c = &broker->config->listeners[i];
        int result = c->port == 0 ? open_unix(all, (int)i, c, err) : open_tcp(all, (int)i, c, err);
        if (result < 0) {
            listeners_close(all);
            return NULL;
        }
    }
    return all;
}

/* Unix sockets do since they are there: one that does not would be taken for a crashed broker's. */
int listeners_listen(struct listeners *listeners, struct err *err)
{
    for (struct listener *l = listeners->first; l; l = l->next) {
        if (!l->unlink && listen(l->fd, BACKLOG) < 0) {
            return fail(err, &listeners->broker->config->listeners[l->door], l->name, "listen on", errno);
        }
    }
    return 0;
}

static void say_open(const struct listeners *all)
{
    for (const struct listener *l = all->first; l; l = l->next) {
        const struct config_listener *c = &all->broker->config->listeners[l->door];
        log_write(LOG_T_INFO, "Listener %d: %s%s on %s%s port %d.", l->door,
                  c->protocol == PROTOCOL_MQTT ? "MQTT" : "WebSocket", c->tls ? " over TLS" : "", l->name,
                  l->unlink ? l->unlink : "", c->port);
    }
}

void listeners_start(struct listeners *listeners, listener_stack *stack, void *arg)
{
    listeners->stack = stack;
    listeners->arg = arg;
    say_open(listeners);
    watch_all(listeners, LOOP_READ);
}

void listeners_pause(struct listeners *listeners, int64_t max_ms)
{
    listeners->reloading = true;
    watch_all(listeners, 0);
    conn_hold_greetings(listeners->broker, true);
    timer_start(listeners->broker->loop, &listeners->pause, max_ms);
}

void listeners_start_again(struct listeners *listeners)
{
    listeners->reloading = false;
    timer_stop(listeners->broker->loop, &listeners->pause);
    pause_over(listeners);
}

void listeners_close(struct listeners *all)
{
    if (!all) {
        return;
    }
    timer_stop(all->broker->loop, &all->pause);
    while (all->first) {
        struct listener *l = all->first;
        all->first = l->next;
        watch_set(all->broker->loop, &l->watch, 0);
        close(l->fd);
        if (l->unlink) {
            unlink(l->unlink);
        }
        free(l->unlink);
        free(l);
    }
    free(all);
}
