/*
 * tls.h - TLS for whatever lies below: contexts made from a listener's files, and the transport.
 *
 * A struct tls_context is what certfile, keyfile, cafile, crlfile and the version and cipher options of one
 * listener become. It is loaded purely (any thread), immutable, and counted on the loop thread: a reload
 * makes a new one, and connections that live keep the old one until they close.
 *
 * Handshakes run on worker threads: the loop feeds bytes, a worker owns the mbedTLS context until it answers
 * by mail.
 *
 *    loop:   below.readable -> bytes into a buffer -> job ------+        +-> mail: bytes out -> below.writev
 *    worker:                                                    +-> mbedtls_ssl_handshake_step... (owns the
 * context)
 */
#ifndef BRAMBLE_TLS_H
#define BRAMBLE_TLS_H

#include "broker/config.h"
#include "broker/err.h"
#include "broker/transport.h"

struct loop;
struct tls;
struct tls_context;

/* Reads the files of the listener. NULL with err ("file:line: directive path: reason"). What works but should
 * be known (an expired certificate, a key that everybody may read) is logged as a warning. Session tickets
 * are on unless the listener requires certificates. Made for one struct tls, which keeps the ticket keys over
 * reloads. */
struct tls_context *tls_context_load(const struct config_listener *listener, struct err *err);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);

/* The handshake workers; threads < 1: one less than there are processors, but one at least. queue_max bounds
 * the handshakes that wait for a worker or for bytes; further ones are refused at once. timeout_ms is the
 * time from start() to ready(). NULL without memory. */
struct tls *tls_new(struct loop *loop, int threads, int queue_max, int timeout_ms, struct err *err);
/* After all transports are closed, and before loop_free(). Waits for the handshake step under way, and cuts
 * off closed transports that still send what they took. */
void tls_free(struct tls *tls);

/* A server-side TLS transport on top of below, which it then owns (also when NULL is returned, for want of
 * memory). */
struct transport *tls_accept(struct tls *tls, struct tls_context *context, struct transport *below);

/* The tool `bramble cert`: see tls/cert_tool.c. argv[0] is "cert". Returns the exit status. */
int cert_tool(int argc, char **argv);

/* Makes dir/ca.crt, dir/ca.key, dir/server.crt and dir/server.key (P-256; keys 0600, written atomically), and
 * dir itself, unless they are there already. names: host names and addresses for the server certificate,
 * NULL-ended; NULL or none: localhost and this machine's names and addresses. days <= 0: the default (820;
 * browsers accept 825 at most). 0, or -1 with err, also when a certificate is there without its key. */
int cert_make_all(const char *dir, const char *const *names, int days, struct err *err);

#endif
