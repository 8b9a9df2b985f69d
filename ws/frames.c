/*
 * frames.c - follows the frames of a client (RFC 6455 5.2) without looking at their payload. See input.h.
 *
 *      0          1           2..3 or 2..9    then
 *     |F R R R op|M length 7 | length 16, 64 | mask 4 | payload...
 *
 * Bytes come in any portions, so the header is taken one at a time; mask and payload are skipped in bulk.
 */
#include "ws/input.h"

enum {
    CONTINUATION = 0,
    TEXT = 1,
    BINARY = 2,
    CLOSE = 8,
    PONG = 10,
    CONTROL = 8,
    CONTROL_MAX = 125,
    MASK = 4
};

/* Codes of RFC 6455 7.4.1 */
enum { PROTOCOL_ERROR = 1002, UNACCEPTABLE = 1003, TOO_BIG = 1009 };

static struct ws_fault fault(int code, const char *text)
{
    return (struct ws_fault){code, text};
}

static const struct ws_fault none;

static struct ws_fault first_byte(struct ws_frames *frames, uint8_t byte)
{
    uint8_t opcode = byte & 0x0f;
    bool final = byte & 0x80;

    if (byte & 0x70)
        return fault(PROTOCOL_ERROR, "WebSocket frame with reserved bits received");
    if (opcode == TEXT)
        return fault(UNACCEPTABLE, "text frame received [MQTT-6.0.0-1]");
    if (opcode > PONG || (opcode > BINARY && opcode < CONTROL))
        return fault(PROTOCOL_ERROR, "WebSocket frame with a reserved opcode received");
    if (opcode >= CONTROL && !final)
        return fault(PROTOCOL_ERROR, "WebSocket control frame in fragments received");
    if (opcode == CONTINUATION && !frames->unfinished)
        return fault(PROTOCOL_ERROR, "WebSocket frame received that continues nothing");
    if (opcode == BINARY && frames->unfinished)
        return fault(PROTOCOL_ERROR, "WebSocket message received that begins within another");
    if (opcode < CONTROL)
        frames->unfinished = !final;
    frames->closed = opcode == CLOSE;
    frames->opcode = opcode;
    return none;
}

static struct ws_fault second_byte(struct ws_frames *frames, uint8_t byte)
{
    uint8_t length = byte & 0x7f;

    if (!(byte & 0x80))
        return fault(PROTOCOL_ERROR, "WebSocket frame without a mask received (RFC 6455 5.1)");
    if (frames->opcode >= CONTROL && length > CONTROL_MAX)
        return fault(PROTOCOL_ERROR, "WebSocket control frame of more than 125 bytes received");
    if (frames->opcode == CLOSE && length == 1)
        return fault(PROTOCOL_ERROR, "WebSocket close frame with half a status code received");
    frames->need = (uint8_t)(length == 127 ? 10 : length == 126 ? 4 : 2);
    frames->length = frames->need == 2 ? length : 0;
    return none;
}

static struct ws_fault header_byte(struct ws_frames *frames, uint8_t byte)
{
    struct ws_fault wrong = none;

    frames->have++;
    if (frames->have == 1)
        return first_byte(frames, byte);
    if (frames->have == 2)
        wrong = second_byte(frames, byte);
    else if (byte && frames->need == 10 && frames->have <= 6)
        /* libwebsockets counts in size_t: on a machine of 32 bits it would forget the upper half */
        wrong = fault(TOO_BIG, "WebSocket frame of 4 GiB or more announced");
    else
        frames->length = frames->length << 8 | byte;
    if (wrong.code || frames->have < frames->need)
        return wrong;
    frames->skip = MASK + frames->length;
    frames->have = 0;
    return none;
}

/* The client's close frame was the last one; what comes behind it is not looked at. */
static bool is_over(const struct ws_frames *frames)
{
    return frames->closed && frames->have == 0 && frames->skip == 0;
}

struct ws_fault ws_frames_follow(struct ws_frames *frames, const uint8_t *data, size_t n, size_t *good)
{
    size_t at = 0, start = 0; /* start: of the frame whose header is being read, if it is in data */

    for (;;) {
        size_t step = frames->skip < n - at ? (size_t)frames->skip : n - at;

        frames->skip -= step;
        at += step;
        if (at == n || is_over(frames))
            break;
        if (frames->have == 0)
            start = at;
        struct ws_fault wrong = header_byte(frames, data[at++]);
        if (wrong.code) {
            *good = start;
            return wrong;
        }
    }
    *good = at;
    return none;
}
