// dom.js: a few helpers around the document. Text reaches the page through setText and textContent only.

export const $ = (id) => document.getElementById(id);

// Writes only what has changed: reading a text node is cheap, laying out the page again is not.
export function setText(node, text) {
    if (node.textContent !== text) {
        node.textContent = text;
    }
}

export function setShown(node, shown) {
    if (node.hidden === shown) {
        node.hidden = !shown;
    }
}

export function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) {
        node.className = className;
    }
    if (text !== undefined) {
        node.textContent = text;
    }
    return node;
}

// A note or an error: empty words hide it.
export function say(node, words) {
    setText(node, words);
    setShown(node, words !== '');
}

// Paints at most once per animation frame, and each part at most once in its own time. A part is painted when
// it was asked for since its last turn; a hidden page is not painted at all.
export class Painter {
    constructor() {
        this.parts = new Map();
        this.frame = 0;
        document.addEventListener('visibilitychange', () => this.ask());
    }

    add(name, every, paint) {
        this.parts.set(name, { every, paint, wanted: false, last: -Infinity });
    }

    // ask() wants everything, ask('list') one part; now: the next frame, whatever its time.
    ask(name, now = false) {
        for (const [key, part] of this.parts) {
            if (name === undefined || key === name) {
                part.wanted = true;
                part.last = now ? -Infinity : part.last;
            }
        }
        this.wake();
    }

    wake() {
        if (this.frame === 0 && !document.hidden) {
            this.frame = requestAnimationFrame((at) => this.run(at));
        }
    }

    run(at) {
        this.frame = 0;
        let more = false;
        for (const part of this.parts.values()) {
            if (part.wanted && at - part.last >= part.every) {
                part.wanted = false;
                part.last = at;
                part.paint();
            }
            more ||= part.wanted;
        }
        if (more) {
            this.wake();
        }
    }
}
