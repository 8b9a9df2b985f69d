// format.js: from bytes and numbers to words. Pure functions, no DOM.
//
// Everything that comes in here was written by strangers: topic names and payloads may hold markup, control
// characters, right-to-left overrides or half a UTF-8 sequence. What goes out is plain text that the page
// puts into textContent only. Hidden characters are made visible, so that no topic can pass for another one.

const utf8 = new TextDecoder('utf-8', { fatal: true });
const count = new Intl.NumberFormat('en-US');
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const short = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 6 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

// C0 and C1 controls, soft hyphen, zero-width characters, bidirectional controls, line separators, BOM.
const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
// The same without tab, line feed and carriage return, for text of several lines.
const hiddenInText =
    /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const controls = /[\u0000-\u0008\u000e-\u001a\u001c-\u001f\u007f]/;

const escapeCode = (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0');

// One line of text with every hidden character written as \uXXXX.
export function printable(text) {
    return text.replace(hidden, escapeCode);
}

// The same for text that keeps its lines.
export function printableLines(text) {
    return text.replace(hiddenInText, escapeCode);
}

// Bytes as text, or null when they are not text (bad UTF-8, or control characters that no text has).
export function decodeText(bytes) {
    try {
        const text = utf8.decode(bytes);
        return controls.test(text) ? null : text;
    } catch {
        return null;
    }
}

// The text of the first `limit` bytes; a character cut in two at the limit does not make it binary.
export function decodeStart(bytes, limit) {
    let end = Math.min(bytes.length, limit);
    if (end < bytes.length) {
        for (let back = 0; back < 3 && end > 0 && (bytes[end] & 0xc0) === 0x80; back++) {
            end--;
        }
    }
    return decodeText(bytes.subarray(0, end));
}

function hexByte(byte) {
    return byte.toString(16).padStart(2, '0');
}

// "48 65 6c 6c 6f" for one line.
export function hexLine(bytes, limit) {
    const part = Array.from(bytes.subarray(0, limit), hexByte).join(' ');
    return bytes.length > limit ? part + ' …' : part;
}

function asciiByte(byte) {
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·';
}

// A dump with offset, hex and ASCII; 8 bytes a line, so that it fits a phone.
export function hexDump(bytes, limit) {
    const lines = [];
    const end = Math.min(bytes.length, limit);
    for (let at = 0; at < end; at += 8) {
        const row = bytes.subarray(at, Math.min(at + 8, end));
        const ascii = Array.from(row, asciiByte).join('');
        lines.push(
            at.toString(16).padStart(4, '0') + '  ' + Array.from(row, hexByte).join(' ').padEnd(24) + ascii,
        );
    }
    return lines.join('\n');
}

// The value in a row of the list: one line, at most `limit` characters.
export function preview(message, limit = 96) {
    if (message.size === 0) {
        return '(empty)';
    }
    const text = decodeStart(message.payload, limit * 2);
    if (text === null) {
        return 'hex ' + hexLine(message.payload, 24);
    }
    const line = printable(
        text
            .slice(0, limit * 2)
            .replace(/\s+/g, ' ')
            .trim(),
    );
    return line.length > limit || message.size > limit * 2 ? line.slice(0, limit) + '…' : line;
}

// The body of one message for the list of messages. mode: auto, text or hex.
export function body(message, mode, limit = 4000) {
    const { payload, size } = message;
    if (size === 0) {
        return { kind: 'empty', text: '(empty)' };
    }
    const text = mode === 'hex' ? null : decodeStart(payload, payload.length);
    if (text === null) {
        const room = 512;
        return { kind: 'hex', text: hexDump(payload, room) + rest(size, Math.min(payload.length, room)) };
    }
    if (mode === 'auto' && /^\s*[[{]/.test(text) && payload.length === size) {
        const pretty = prettyJson(text);
        if (pretty !== null) {
            return {
                kind: 'json',
                text: printableLines(pretty.slice(0, limit)) + (pretty.length > limit ? '\n…' : ''),
            };
        }
    }
    const cut = text.length > limit || payload.length < size;
    return {
        kind: 'text',
        text: printableLines(text.slice(0, limit)) + (cut ? '\n… of ' + bytes(size) : ''),
    };
}

function rest(size, shown) {
    return size > shown ? '\n… of ' + bytes(size) : '';
}

function prettyJson(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return null;
    }
}

export function bytes(n) {
    return n < 1024
        ? n + ' B'
        : n < 1048576
          ? (n / 1024).toFixed(1) + ' KB'
          : (n / 1048576).toFixed(1) + ' MB';
}

export function number(n) {
    return Math.abs(n) >= 1e15 || (n !== 0 && Math.abs(n) < 1e-6) ? n.toExponential(4) : short.format(n);
}

export function counted(n) {
    return n < 100000 ? count.format(n) : compact.format(n);
}

// "12/s", "3.4/s", "6/min"; empty when there is nothing worth saying.
export function rate(perSecond) {
    if (perSecond >= 0.95) {
        return (perSecond < 9.95 ? perSecond.toFixed(1) : counted(Math.round(perSecond))) + '/s';
    }
    return perSecond >= 0.015 ? Math.round(perSecond * 60) + '/min' : '';
}

export function time(ms) {
    return clock.format(ms);
}

export function timeExact(ms) {
    return clock.format(ms) + '.' + String(Math.floor(ms) % 1000).padStart(3, '0');
}

// How long ago: "now", "12 s", "4 min", "3 h".
export function ago(ms) {
    const s = Math.max(0, ms / 1000);
    return s < 1.5
        ? 'now'
        : s < 60
          ? Math.floor(s) + ' s'
          : s < 3600
            ? Math.floor(s / 60) + ' min'
            : Math.floor(s / 3600) + ' h';
}
