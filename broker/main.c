/*
 * main.c - the daemon's life, and the sub-commands.
 *
 *   arguments -> configuration -> background -> files and sockets (still as root) -> user -> log thread
 *     -> store -> workers -> what was stored -> listening -> ready -> loop ... SIGHUP: reload ... SIGTERM
 *     -> accept no more -> what is held -> end connections (wills) -> what that leaves to the store -> exit 0
 *
 * What is read is read by then: the loop thread opens no file any more. A reload is read by a thread of its
 * own (struct reload) and swapped in on the loop.
 */
#include "auth/passwd_tool.h"
#include "broker/accesslog.h"
#include "broker/broker.h"
#include "broker/listener.h"
#include "broker/log.h"
#include "broker/mailbox.h"
#include "broker/service.h"
#include "broker/setup.h"
#include "broker/spare.h"
#include "broker/stable.h"
#include "broker/sys.h"
#include "broker/tool_acl.h"
#include "broker/tool_store.h"
#include "broker/wire.h"
#include "tls/tls.h"
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_CONFIG = 3, RELOAD_PAUSE_MS = 2000, LAST_CHECK_MS = 1000 };
#define DEFAULT_USER "bramble"

struct daemon {
    struct config_args args;
    struct config *config;
    struct loop *loop;
    struct stable *stable; /* NULL: nothing is durable */
    struct broker broker;
    struct wire *wire;
    struct wiring *first_wiring; /* until wire_use() */
    struct listeners *listeners;
    struct sys *sys;
    struct accesslog *accesslog;
    struct timer watchdog;
    struct reload *reload; /* the one under way */
    bool reload_again;
    bool domain;  /* broker_init() was done */
    bool runs;    /* the loop has been running */
    bool closing; /* a reload that ends now is thrown away */
    int ready_fd, notify_fd;
    struct spare spare; /* descriptors for what a reload opens while clients use all others */
};

/* ---- reload ---- */

struct reload {
    struct mail mail; /* first */
    struct daemon *daemon;
    pthread_t thread;
    struct config *config; /* the new one, or NULL: the old one goes on with new files */
    struct wiring *wiring; /* NULL: failed, err says why */
    struct err err;
};

static void log_line(void *ctx, const char *text)
{
    (void)ctx;
    log_write(LOG_T_WARNING, "%s", text);
}

static void log_restart_needed(void *ctx, const char *text)
{
    (void)ctx;
    log_write(LOG_T_WARNING, "Reload: %s takes effect at a restart only.", text);
}

/* In the background there is no terminal to write to. */
static struct log_options log_options(const struct config *config)
{
    unsigned terminals = config->daemon ? LOG_D_STDERR | LOG_D_STDOUT : 0;
    unsigned access = (config->access_log_file ? LOG_D_ACCESS_FILE : 0U) |
                      (config->access_log_journal ? LOG_D_ACCESS_SYSLOG : 0U);
    return (struct log_options){.dests = (config->log_dest & ~terminals) | access,
                                .types = config->log_type,
                                .file = config->log_file,
                                .access_file = config->access_log_file,
                                .facility = config->log_facility,
                                .timestamp = config->log_timestamp,
                                .timestamp_format = config->log_timestamp_format};
}

static void blame_log(const struct config *config, enum log_dest failed, struct err *err)
{
    if (failed == LOG_D_ACCESS_FILE) {
        config_blame(config->access_log_file_at, "access_log_file", err);
    } else {
        config_blame(config->log_file_at, "log_dest", err);
    }
}

/* On the reload's thread. The old configuration is not changed by anybody and stays until the mail is read.
 */
static void *read_anew(void *arg)
{
    struct reload *reload = arg;
    const struct config *old = reload->daemon->config;
    reload->config = config_load(&reload->daemon->args, log_line, NULL, &reload->err);
    if (reload->config) {
        config_diff(old, reload->config, log_restart_needed, NULL);
        config_keep_store(old, reload->config);
        if (!config_same_listeners(old, reload->config)) {
            log_write(
                LOG_T_WARNING,
                "Reload: the listeners have changed, which takes a restart. Until then the old options stay; "
                "passwords, ACLs and certificates are read anew.");
            config_free(reload->config);
            reload->config = NULL;
        }
        reload->wiring = wire_load(reload->config ? reload->config : old, &reload->err);
    }
    const struct config *used = reload->wiring && reload->config ? reload->config : old;
    struct log_options options = log_options(used);
    enum log_dest failed = 0;
    struct err err;
    options.failed = &failed;
    if (log_reopen(&options, &err) < 0) { /* also without a change: the file may have been rotated */
        blame_log(used, failed, &err);
        log_write(LOG_T_ERROR, "Reload: %s; the log goes on as before.", err.text);
    }
    mailbox_post(loop_mailbox(reload->daemon->loop), &reload->mail);
    return NULL;
}

static void reload_start(struct daemon *daemon);

static void reload_over(struct daemon *daemon)
{
    spare_take(&daemon->spare);
    listeners_start_again(daemon->listeners);
    service_notify_ready(daemon->notify_fd, NULL);
}

/* Back on the loop: all or nothing. */
static void reload_done(struct mail *mail)
{
    struct reload *reload = (struct reload *)mail;
    struct daemon *daemon = reload->daemon;
    pthread_join(reload->thread, NULL);
    daemon->reload = NULL;
    if (daemon->closing) {
        wire_unload(reload->wiring);
        config_free(reload->config);
        free(reload);
        return;
    }
    if (reload->wiring) {
        struct config *old = daemon->config;
        daemon->config = reload->config ? reload->config : old;
        wire_use(daemon->wire, reload->wiring, daemon->config);
        sys_reload(daemon->sys);
        accesslog_reload(daemon->accesslog);
        if (reload->config) {
            config_free(old);
        }
        log_write(LOG_T_NOTICE, "Reloaded.");
    } else {
        log_write(LOG_T_ERROR, "%s", reload->err.text);
        log_write(LOG_T_ERROR, "Reload failed: everything stays as it was.");
        config_free(reload->config);
    }
    free(reload);
    reload_over(daemon);
    if (daemon->reload_again) {
        daemon->reload_again = false;
        reload_start(daemon);
    }
}

static void reload_start(struct daemon *daemon)
{
    if (daemon->reload) {
        daemon->reload_again = true;
        return;
    }
    service_notify_reloading(daemon->notify_fd, NULL);
    spare_give(&daemon->spare);
    listeners_pause(daemon->listeners, RELOAD_PAUSE_MS);
    struct reload *reload = calloc(1, sizeof *reload);
    if (reload) {
        *reload = (struct reload){.mail = {.fn = reload_done}, .daemon = daemon};
    }
    daemon->reload = reload;
    if (!reload || pthread_create(&reload->thread, NULL, read_anew, reload) != 0) {
        log_write(LOG_T_ERROR, "Reload failed: no memory or no thread for it. Everything stays as it was.");
        daemon->reload = NULL;
        free(reload);
        reload_over(daemon);
    }
}

/* ---- signals and the watchdog ---- */

static void on_hangup(void *arg, int signo)
{
    (void)signo;
    log_write(LOG_T_NOTICE, "SIGHUP: reading the configuration and its files again.");
    reload_start(arg);
}

/* Before it is listened to and after the loop's end a SIGHUP waits, rather than kill: SIGTERM ends with 0. */
static void hold_hangup(int how)
{
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    pthread_sigmask(how, &hangup, NULL);
}

static void stop_at_once(int signo)
{
    (void)signo;
    _exit(0);
}

static void on_terminate(void *arg, int signo)
{
    struct daemon *daemon = arg;
    log_write(LOG_T_NOTICE, "%s: stopping.", signo == SIGINT ? "SIGINT" : "SIGTERM");
    signal(SIGTERM, stop_at_once); /* somebody is in a hurry */
    signal(SIGINT, stop_at_once);
    hold_hangup(SIG_BLOCK);
    service_notify_stopping(daemon->notify_fd, NULL);
    loop_stop(daemon->loop);
}

static void watchdog_due(void *arg)
{
    struct daemon *daemon = arg;
    char status[96];
    snprintf(status, sizeof status,
             "STATUS=%zu clients, %" PRIu64 " messages received, %" PRIu64 " sent\nWATCHDOG=1",
             daemon->broker.sessions.online - 1, daemon->broker.counters.publish_received,
             daemon->broker.counters.publish_sent);
    service_notify(daemon->notify_fd, status, NULL);
    timer_start(daemon->loop, &daemon->watchdog, (int64_t)(service_watchdog_us() / 2000));
}

/* ---- the life ---- */

static int fail(const struct err *err, int status)
{
    fprintf(stderr, "%s\n", err->text);
    return status;
}

static void print_line(void *ctx, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%s\n", text);
}

/* Descriptors for all clients that may come, as far as the system lets us. */
static void raise_limits(const struct config *config)
{
    uint64_t clients = 0;
    for (size_t i = 0; i < config->listener_count; i++) {
        clients +=
            config->listeners[i].max_connections > 0 ? (uint64_t)config->listeners[i].max_connections : 0;
    }
    struct err err;
    if (service_raise_nofile(clients ? clients + 100 : 10000, &err) < 0) {
        log_write(LOG_T_INFO, "%s", err.text);
    }
}

/* As mosquitto: where the default user does not exist, nobody serves. A user named in the file must exist. */
static int drop_privileges(const char *user, struct err *err)
{
    if (geteuid() == 0 && strcmp(user, DEFAULT_USER) == 0 && !getpwnam(user)) {
        log_write(
            LOG_T_WARNING,
            "There is no user '%s'; running as 'nobody'. Files that a reload reads must be readable to it.",
            user);
        user = "nobody";
    }
    return service_drop_privileges(user, err);
}

/* Everything that may need root's rights or must stop the start. 0, or the exit status. */
static int open_all(struct daemon *d, struct err *err)
{
    d->loop = loop_new();
    if (!d->loop) {
        err_set(err, "Error: out of memory, or the kernel gives no event queue: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    d->broker = (struct broker){.loop = d->loop, .config = d->config}; /* the rest waits for the store */
    if (service_notify_socket(&d->notify_fd, err) < 0) {
        return EXIT_FAILURE;
    }
    d->first_wiring = wire_load(d->config, err);
    if (!d->first_wiring || wire_check_store(d->config, err) < 0) {
        return EXIT_CONFIG;
    }
    d->listeners = listeners_open(&d->broker, err);
    if (!d->listeners) {
        return EXIT_FAILURE;
    }
    if (d->config->pid_file && service_pid_file_write(d->config->pid_file, err) < 0) {
        config_blame(d->config->pid_file_at, "pid_file", err);
        return EXIT_FAILURE;
    }
    if (drop_privileges(d->config->user, err) < 0) {
        config_blame(d->config->user_at, "user", err);
        return EXIT_FAILURE;
    }
    return 0;
}

static int start_domain(struct daemon *d, struct err *err)
{
    if (stable_open(&d->stable, d->config, loop_mailbox(d->loop), err) < 0) {
        return EXIT_CONFIG;
    }
    if (broker_init(&d->broker, d->loop, d->config, stable_storage(d->stable)) < 0) {
        err_set(err, "Error: out of memory");
        return EXIT_FAILURE;
    }
    d->domain = true;
    return 0;
}

/* The rights must be there before what was stored comes back, and that before anybody can ask for it. */
static int start_work(struct daemon *d, struct err *err)
{
    d->wire = wire_new(&d->broker, err);
    if (!d->wire) {
        return EXIT_FAILURE;
    }
    wire_use(d->wire, d->first_wiring, d->config);
    d->first_wiring = NULL;
    if (stable_load(d->stable, &d->broker, d->notify_fd, err) < 0) {
        return EXIT_CONFIG;
    }
    d->sys = sys_new(&d->broker, stable_storage(d->stable));
    d->accesslog = accesslog_new(&d->broker);
    if (!d->sys || !d->accesslog) {
        err_set(err, "Error: out of memory");
        return EXIT_FAILURE;
    }
    return stable_start(d->stable, err) < 0 || listeners_listen(d->listeners, err) < 0 ? EXIT_FAILURE : 0;
}

static int start_all(struct daemon *d, struct err *err)
{
    struct log_options options = log_options(d->config);
    enum log_dest failed = 0;
    options.failed = &failed;
    if (log_start(&options, err) < 0) {
        blame_log(d->config, failed, err);
        return EXIT_CONFIG;
    }
    log_write(LOG_T_INFO, "bramble version %s starting.", BRAMBLE_VERSION);
    log_write(LOG_T_INFO, d->config->path ? "Config loaded from %s." : "Using default config.",
              d->config->path);
    raise_limits(d->config);
    int status = start_domain(d, err);
    return status ? status : start_work(d, err);
}

static int watch_signals(struct daemon *d, struct err *err)
{
    if (loop_on_signal(d->loop, SIGTERM, on_terminate, d) < 0 ||
        loop_on_signal(d->loop, SIGINT, on_terminate, d) < 0 ||
        loop_on_signal(d->loop, SIGHUP, on_hangup, d) < 0) {
        err_set(err, "Error: cannot watch for signals: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    hold_hangup(SIG_UNBLOCK);
    signal(SIGUSR1, SIG_IGN); /* mosquitto saves its store then: nothing to do, but no reason to die */
    signal(SIGUSR2, SIG_IGN);
    return 0;
}

static void run(struct daemon *d)
{
    struct err err;
    loop_before_sleep(d->loop, broker_before_sleep, &d->broker);
    listeners_start(d->listeners, wire_stack, d->wire);
    if (service_watchdog_us()) {
        timer_setup(&d->watchdog, watchdog_due, d);
        watchdog_due(d);
    }
    log_write(LOG_T_INFO, "bramble version %s running.", BRAMBLE_VERSION);
    if (d->config->daemon && service_daemon_ready(d->ready_fd, &err) < 0) {
        log_write(LOG_T_WARNING, "%s", err.text);
    }
    spare_take(&d->spare);
    service_notify_ready(d->notify_fd, NULL);
    d->runs = true;
    loop_run(d->loop);
}

/* The other way round. Also after a start that failed half-way. A password's check may take longer than
 * anybody waits for the daemon's end, and cannot be stopped: its thread uses nothing but memory, which the
 * process takes along. */
static void close_all(struct daemon *d, int status)
{
    d->closing = true;
    while (d->reload) { /* its thread posts its mail and ends */
        mailbox_drain(loop_mailbox(d->loop));
        usleep(1000);
    }
    listeners_close(d->listeners);
    if (d->domain) {
        if (d->runs) {
            broker_before_sleep(&d->broker); /* what is queued goes out, as far as the sockets take it */
            timer_stop(d->loop, &d->watchdog);
        }
        stable_drain(d->stable, &d->broker);
        sys_stop(d->sys);
        accesslog_stop(d->accesslog);
        broker_stop(&d->broker);
        stable_stop(d->stable, &d->broker);
        broker_free(&d->broker);
        accesslog_free(d->accesslog);
    }
    stable_close(d->stable);
    bool checking = !hasher_stop(d->broker.hasher, LAST_CHECK_MS);
    if (!checking) {
        wire_free(d->wire);
    }
    sys_free(d->sys);
    wire_unload(d->first_wiring);
    if (d->config->pid_file) {
        service_pid_file_remove(d->config->pid_file);
    }
    if (checking) {
        log_write(LOG_T_INFO, "The password that is being checked is not waited for.");
    }
    log_write(LOG_T_INFO, "bramble version %s terminating.", BRAMBLE_VERSION);
    log_stop();
    if (checking) {
        _exit(status);
    }
}

static int check_only(struct daemon *d)
{
    struct err err;
    struct wiring *wiring = wire_load(d->config, &err);
    if (!wiring || wire_check_store(d->config, &err) < 0) {
        wire_unload(wiring);
        return fail(&err, EXIT_CONFIG);
    }
    wire_unload(wiring);
    fprintf(stderr, "Configuration file is OK.\n");
    return 0;
}

static int daemon_main(struct daemon *d)
{
    struct err err = {""};
    if (d->args.test_config) {
        return check_only(d);
    }
    hold_hangup(SIG_BLOCK);
    if (d->config->daemon && service_daemonise(&d->ready_fd, &err) < 0) {
        return fail(&err, EXIT_FAILURE);
    }
    signal(SIGPIPE, SIG_IGN);
    int status = open_all(d, &err);
    status = status ? status : start_all(d, &err);
    status = status ? status : watch_signals(d, &err);
    if (status) {
        fprintf(stderr, "%s\n", err.text);
    } else {
        run(d);
    }
    close_all(d, status);
    return status;
}

static const struct {
    const char *name;
    int (*tool)(int argc, char **argv);
} tools[] = {{"passwd", passwd_tool},
             {"cert", cert_tool},
             {"setup", setup_tool},
             {"acl", acl_tool},
             {"store", store_tool}};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof tools / sizeof *tools; i++) {
        if (strcmp(argv[1], tools[i].name) == 0) {
            return tools[i].tool(argc - 1, argv + 1);
        }
    }
    struct err err = {""};
    struct daemon daemon = {.ready_fd = -1, .notify_fd = -1};
    spare_init(&daemon.spare);
    if (service_std_fds(&err) < 0) {
        return fail(&err, EXIT_FAILURE);
    }
    int status = config_args_parse(argc, argv, &daemon.args, stdout, stderr);
    if (status != CONFIG_ARGS_RUN) {
        return status;
    }
    daemon.config = config_load(&daemon.args, print_line, NULL, &err);
    if (!daemon.config) {
        return fail(&err, EXIT_CONFIG);
    }
    status = daemon_main(&daemon);
    config_free(daemon.config);
    if (daemon.loop) {
        loop_free(daemon.loop);
    }
    return status;
}
