/*
 * input.h - what a client of a websockets listener sends, judged before libwebsockets sees it: the header of
 * a request as a whole (request.c), and the header of each frame (frames.c). Pure: bytes in, a verdict out.
 *
 * libwebsockets is lenient: it takes frames without a mask (RFC 6455 5.1: a server MUST close), ends the
 * request line at an encoded newline in the path, and closes without a word on much of what it does not like.
 * Behind these two judges it only meets what is well formed, and each refusal has a reason for the log.
 */
#ifndef BRAMBLE_WS_INPUT_H
#define BRAMBLE_WS_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why something is refused. code 0: it is not. */
struct ws_fault {
    int code; /* an HTTP status, or the code of a WebSocket close frame */
    const char *text;
};

/* --- request.c --- */

/* Bytes of the header at the front of data, its empty line included; 0 when the empty line is not there yet.
 * The first `seen` bytes were looked at before. */
size_t ws_request_size(const char *data, size_t n, size_t seen);

/* Judges such a header. */
struct ws_fault ws_request_check(const char *header, size_t n);

/* Judges the first byte of a request, before the rest is there: what is no HTTP is not waited for. */
struct ws_fault ws_request_begins(unsigned char first);

/* --- frames.c --- */

/* Where a client is in its stream of frames; all zero before the first. */
struct ws_frames {
    uint64_t length; /* payload of the frame whose header is being read */
    uint64_t skip;   /* bytes of mask and payload that are still to come */
    uint8_t have;    /* bytes of the header so far */
    uint8_t need;    /* ... and in all, but for the mask */
    uint8_t opcode;
    bool unfinished; /* a message whose last fragment has not come */
    bool closed;     /* a close frame has come: it is the last (RFC 6455 5.5.1) */
};

/* Follows n more bytes. *good: how many of them count, that is those before a frame that is wrong, and up to
 * the end of a close frame. */
struct ws_fault ws_frames_follow(struct ws_frames *frames, const uint8_t *data, size_t n, size_t *good);

#endif
