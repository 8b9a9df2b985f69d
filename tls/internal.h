/*
 * internal.h - what the files of tls/ share among themselves; nobody else includes it.
 *
 *   context.c           struct tls_context: the files of a listener become mbedTLS configurations
 *   ciphers.c           OpenSSL's cipher names and words -> mbedTLS' numbers, in our order of preference
 *   files.c             reading small files, writing them atomically
 *   hello.c             a look at the first bytes of a client: TLS, or what else?
 *   pool.c              struct tls and its worker threads
 *   handshake.c         a stream before it is open
 *   transport_tls.c     a stream when it is open, and its closing; the transport_ops
 *   stream_bio.c        between mbedTLS and the transport below
 *   facts.c             what is told about a client's certificate
 *   why.c               mbedTLS' error numbers in words
 *   mem.c, bytes.c      record buffers on pages of their own; a queue of bytes
 *   cert*.c             `bramble cert`
 */
#ifndef TLS_INTERNAL_H
#define TLS_INTERNAL_H

#include "broker/bytes.h"
#include "broker/loop.h"
#include "broker/mailbox.h"
#include "tls/tls.h"
#include <mbedtls/pk.h>
#include <mbedtls/psa_util.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#ifndef MBEDTLS_THREADING_C
#error \
    "bramble needs an mbedTLS with MBEDTLS_THREADING_C and MBEDTLS_THREADING_PTHREAD: handshakes run on threads"
#endif

/* mbedTLS' own random generator, seeded by the kernel; locked by mbedTLS, so any thread may use it. */
#define TLS_RNG mbedtls_psa_get_random, MBEDTLS_PSA_RANDOM_STATE

enum {
    TLS_HANDSHAKE_MAX = 64 * 1024, /* bytes that a client may send before its handshake is done */
    TLS_QUEUE_MAX = 64 * 1024,     /* a stream with more ciphertext than this waiting takes no more */
    TLS_RECORD = 4000,       /* payload of our records: with header and tag they fit on a page (see mem.c) */
    TLS_WIRE = 32 * 1024,    /* ciphertext gathered before one write */
    TLS_SCRATCH = 17 * 1024, /* one read: a record of the largest size, or many small ones */
    TLS_LINGER_MS = 2000,    /* how long a closed stream may take to send what it took */
    TLS_FILE_MAX = 4 * 1024 * 1024
};

/* ---- mem.c ---- */

/* Starts PSA (once) and puts our allocator below mbedTLS (once). Before anything else of mbedTLS. 0, or -1
 * with err. */
int tls_library_start(struct err *err);
/* Once the handshake is over: gives back what only it needed. */
void tls_mem_handshake_done(mbedtls_ssl_context *ssl);
/* Gives the pages of the record buffers back that hold nothing now: after big records. */
void tls_mem_trim(mbedtls_ssl_context *ssl);
/* Record buffers that are on pages of their own now (for tests). */
int tls_mem_slots_used(void);

/* ---- files.c ---- */

struct tls_blob {
    unsigned char *data; /* with a zero byte behind the last one, as mbedTLS wants for PEM */
    size_t len;          /* without that zero byte */
    unsigned mode;       /* permission bits */
};

/* 0, or -1 with err "PATH: reason". Refuses what is no regular file, or larger than TLS_FILE_MAX. */
int tls_file_read(const char *path, struct tls_blob *blob, struct err *err);
/* Wipes it first: it may be a key. */
void tls_blob_free(struct tls_blob *blob);
/* Whether it is PEM; mbedTLS then wants the zero byte counted. */
size_t tls_blob_size(const struct tls_blob *blob);
/* A temporary file beside it, fsync, rename, fsync of the folder. 0, or -1 with err. */
int tls_file_write(const char *path, const void *data, size_t len, unsigned mode, struct err *err);

/* ---- ciphers.c ---- */

enum { TLS_SUITES_MAX = 32 };

/* Zero-ended lists of mbedTLS' numbers: the TLS 1.3 ones first, then the TLS 1.2 ones. */
struct tls_suites {
    int all[TLS_SUITES_MAX + 1];
    int chacha[TLS_SUITES_MAX + 1]; /* the same, but of the TLS 1.3 ones only ChaCha20-Poly1305 */
    bool prefer_chacha;             /* take `chacha` for clients that offer it */
    int count12, count13;
    bool ecdsa12, rsa12; /* for which keys there are TLS 1.2 suites */
};

/* ciphers, ciphers13: OpenSSL's lists, or NULL for our own choice. hw_aes: the CPU has instructions for AES.
 * -1 with err: which word, and what to write instead. */
int tls_suites_parse(struct tls_suites *suites, const char *ciphers, const char *ciphers13, bool hw_aes,
                     struct err *err);
bool tls_cpu_has_aes(void);

/* ---- hello.c ---- */

enum hello_kind { HELLO_MORE, HELLO_TLS, HELLO_MQTT, HELLO_HTTP, HELLO_PROXY, HELLO_OTHER };

struct hello {
    enum hello_kind kind;
    bool alpn;   /* offers one of our protocols */
    bool chacha; /* offers TLS_CHACHA20_POLY1305_SHA256 */
};

/* The protocols that we know: NULL-ended, best first. */
extern const char *const tls_protocols[];

/* Looks at the first n (>= 1) bytes of a client. HELLO_MORE: come back with more. */
struct hello tls_hello_look(const uint8_t *data, size_t n);
/* What to tell about a client that speaks something else; NULL for TLS. */
const char *tls_hello_says(enum hello_kind kind);

/* ---- context.c ---- */

enum { CONF_ALPN = 1, CONF_CHACHA = 2, CONF_COUNT = 4 };

struct tls_context {
    int refs; /* loop thread */
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    mbedtls_x509_crt ca;
    mbedtls_x509_crl crl;
    struct tls_suites suites;
    bool has_crl;
    bool required; /* clients must show a certificate that verifies */
    bool tickets;
    int rsa_copies;
    mbedtls_pk_context
        *rsa_copy; /* one for each worker but the first: mbedTLS locks an RSA key while it is used */
    const char *protocols[8];
    /* The same but for ALPN (on only for clients that offer a protocol of ours; mbedTLS would refuse the
     * others) and for the preference of ChaCha20 (in TLS 1.3 mbedTLS takes the first suite of the client). */
    mbedtls_ssl_config conf[CONF_COUNT];
    struct tls *tls; /* whose ticket keys it uses; set by the first tls_accept() */
};

const mbedtls_ssl_config *tls_context_conf(const struct tls_context *context, struct hello hello);

/* ---- facts.c ---- */

struct cert_facts {
    char *cn;      /* the first common name, NULL if there is none or it is not usable as text */
    char *subject; /* RFC 2253, as OpenSSL writes it */
    char sha256[65];
};

/* NULL without memory, or for a subject beyond all measure (errno E2BIG). */
struct cert_facts *cert_facts_new(const mbedtls_x509_crt *crt);
void cert_facts_free(struct cert_facts *facts);
/* A name in the style of RFC 2253, malloc'd; NULL without memory, or for more than
 * 64 parts. */
char *cert_name_rfc2253(const mbedtls_x509_name *name);
int cert_sha256(const mbedtls_x509_crt *crt, char hex[65]);

/* ---- why.c ---- */

/* Why a call on ssl failed with the mbedTLS error ret, malloc'd; NULL without memory. */
char *tls_why(const mbedtls_ssl_context *ssl, int ret, bool handshake);

/* ---- pool.c ---- */

/* One step of a handshake on its way through a worker. The worker touches only what it says, and of the
 * stream only ssl, in, out and facts. */
struct step {
    struct mail mail; /* first: how it comes back */
    struct step *next;
    struct stream *stream;
    atomic_bool cancelled; /* the stream was closed meanwhile: do not begin */
    int worker;            /* number of the worker that runs it */
    bool setup;            /* ssl is set up */
    bool starved;          /* mbedTLS has had all the input there was */
    const mbedtls_ssl_config *conf;
    int result; /* of mbedtls_ssl_handshake */
    char *why;  /* malloc'd, for a result that is an error */
};

struct tls {
    int refs; /* its user and its streams; loop thread */
    struct loop *loop;
    struct mailbox *mailbox;
    int in_flight, queue_max, timeout_ms;
    struct stream *lingering; /* closed by their owners, still sending */
    mbedtls_ssl_ticket_context tickets;

    pthread_mutex_t mutex; /* guards first, last, stop */
    pthread_cond_t cond;
    struct step *first, **last;
    bool stop;
    int threads;
    pthread_t *thread;
    int started; /* gives the workers their numbers */

    /* For the time of one call of one stream, on the loop thread. */
    uint8_t gather[TLS_RECORD];
    uint8_t wire[TLS_WIRE];
    size_t wire_len;
    uint8_t scratch[TLS_SCRATCH];
    size_t scratch_off, scratch_len;
};

void tls_submit(struct tls *tls, struct step *step);
void tls_ref(struct tls *tls);
void tls_unref(struct tls *tls);

/* ---- a stream ---- */

enum stream_state {
    STREAM_NEW,
    STREAM_HELLO,  /* waits for the client's first record */
    STREAM_WAIT,   /* the handshake waits for bytes */
    STREAM_STEP,   /* a worker computes */
    STREAM_OPEN,   /* ready(0) was called */
    STREAM_FAILED, /* ready(error) was called */
    STREAM_LINGER  /* closed, sends the rest */
};

struct stream {
    struct transport t; /* first */
    struct tls *tls;
    struct tls_context *context;
    struct transport *below; /* NULL when closed */
    mbedtls_ssl_context ssl;
    enum stream_state state;
    bool want_read, want_write;
    bool in_flight;    /* counted in tls->in_flight */
    bool stepping;     /* a worker has ssl, in, out and facts */
    bool orphaned;     /* closed meanwhile: whoever gets the step back frees it */
    bool starved;      /* the last read below had nothing */
    bool big;          /* a record larger than a page came: pages to give back */
    bool ended;        /* read() has met the end, or an error */
    int error;         /* negative errno: broken */
    struct bytes in;   /* ciphertext read from below and not taken by mbedTLS yet */
    struct bytes out;  /* ciphertext for below */
    size_t fed;        /* bytes that the handshake has had */
    struct step *step; /* while there is a handshake */
    struct cert_facts *facts;
    char *why;
    struct timer timer;          /* the handshake's deadline, then the lingering's */
    struct defer again;          /* another readable(), for bytes that need no socket */
    struct stream *next, **prev; /* in tls->lingering */
};

/* handshake.c */
void tls_handshake_start(struct stream *stream);
void tls_handshake_readable(struct stream *stream);
void tls_handshake_below_ready(struct stream *stream, int error);
void tls_handshake_run(struct step *step); /* on a worker */
void tls_handshake_fail(struct stream *stream, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void tls_handshake_cancel(struct stream *stream); /* takes it off the books: deadline, number in flight */

/* stream_bio.c */
int tls_stream_flush(struct stream *stream);             /* out -> below; 0, or a negative errno */
void tls_stream_wire_flush(struct stream *stream);       /* wire -> below, the rest -> out */
void tls_stream_scratch_keep(struct stream *stream);     /* scratch -> in */
void tls_stream_break(struct stream *stream, int error); /* notes the first error */
void tls_stream_set_bio(struct stream *stream);

/* transport_tls.c */
void tls_stream_free(struct stream *stream);

#endif
