// topics.js: the live list of topics. Only the rows that can be seen exist.
//
//   #topics  (scrolls)           order:  the topics to show, filtered and sorted; made anew when topics come,
//   +--------------------+               when the search changes, and twice a second for the orders that move
//   | spacer, full height|
//   |  +--------------+  |       rows:   a pool of elements, one per visible line, moved by transform and
//   |  | row (option) |  |               filled with what the model says now
//   |  +--------------+  |
//   +--------------------+
//
// So a frame costs the same with 10 topics and with 5,000, and with 10 messages a second and with 5,000.

import { $, make, say, setText, setShown } from './dom.js';
import * as format from './format.js';
import { filterMatches } from './filters.js';
import { LIMITS } from './values.js';

const ROW = 58;
const SPARK = 32;
const REORDER = 500;
const SVG = 'http://www.w3.org/2000/svg';
const collator = new Intl.Collator('en', { numeric: true });

const orders = {
    name: (a, b) => collator.compare(a.name, b.name),
    latest: (a, b) => b.lastTime - a.lastTime,
    rate: (a, b, now) => b.rate(now) - a.rate(now) || collator.compare(a.name, b.name),
};

// "rising to the right, scaled to its own range": 64 x 20 units.
function sparkPoints(values) {
    const low = Math.min(...values);
    const range = Math.max(...values) - low || 1;
    const step = 64 / (SPARK - 1);
    const from = 64 - (values.length - 1) * step;
    return values
        .map((v, i) => (from + i * step).toFixed(1) + ',' + (18 - ((v - low) / range) * 16).toFixed(1))
        .join(' ');
}

class Row {
    constructor(index) {
        this.node = make('div', 'row');
        this.node.id = 'topic-row-' + index;
        this.node.setAttribute('role', 'option');
        const name = make('span', 'name');
        this.branch = name.appendChild(make('bdi', 'branch'));
        this.leaf = name.appendChild(make('bdi', 'leaf'));
        this.when = make('span', 'when');
        this.value = make('span', 'value');
        this.retained = make('abbr', 'badge', 'R');
        this.retained.title = 'The last message was a retained one';
        this.qos = make('abbr', 'badge');
        this.counts = make('span', 'counts');
        const svg = document.createElementNS(SVG, 'svg');
        svg.setAttribute('viewBox', '0 0 64 20');
        svg.setAttribute('class', 'spark');
        svg.setAttribute('aria-hidden', 'true');
        this.line = svg.appendChild(document.createElementNS(SVG, 'polyline'));
        const below = make('span', 'below');
        below.append(this.value, svg, this.retained, this.qos, this.counts);
        const above = make('span', 'above');
        above.append(name, this.when);
        this.node.append(above, below);
        this.topic = null;
        this.drawn = -1;
    }

    place(topic, index, total) {
        if (this.topic !== topic) {
            this.topic = topic;
            this.drawn = -1;
            const cut = topic.name.lastIndexOf('/') + 1;
            setText(this.branch, format.printable(topic.name.slice(0, cut)));
            setText(this.leaf, format.printable(topic.name.slice(cut)));
            this.node.dataset.topic = topic.name;
            this.node.title = format.printable(topic.name);
        }
        this.node.style.transform = 'translateY(' + index * ROW + 'px)';
        this.node.setAttribute('aria-posinset', index + 1);
        this.node.setAttribute('aria-setsize', total);
    }

    fill(now) {
        const topic = this.topic;
        setText(this.when, format.ago(now - topic.lastTime));
        const rate = format.rate(topic.rate(now));
        setText(this.counts, (rate ? rate + ' · ' : '') + format.counted(topic.count) + ' msg');
        this.node.classList.toggle('fresh', now - topic.lastTime < 400);
        if (this.drawn === topic.count) {
            return;
        }
        this.drawn = topic.count;
        const last = topic.last;
        setText(this.value, format.preview(last));
        setText(this.qos, 'Q' + last.qos);
        this.qos.title = 'Delivered at QoS ' + last.qos;
        setShown(this.qos, last.qos > 0);
        setShown(this.retained, last.retain);
        const values = topic.series ? topic.series.last(SPARK)[1] : [];
        this.line.setAttribute('points', values.length > 1 ? sparkPoints(values) : '');
    }
}

export class TopicList {
    // chosen(topic): the user selected one. ask(): paint soon.
    constructor(model, painter, chosen) {
        this.model = model;
        this.painter = painter;
        this.chosen = chosen;
        this.box = $('topics');
        this.spacer = this.box.firstElementChild;
        this.rows = [];
        this.order = [];
        this.group = 'user';
        this.sort = 'name';
        this.search = '';
        this.stale = true;
        this.seenVersion = -1;
        this.orderedAt = -Infinity;
        const ask = () => painter.ask('list', true);
        this.box.addEventListener('scroll', ask, { passive: true });
        new ResizeObserver(ask).observe(this.box);
        this.box.addEventListener('click', (e) => this.click(e));
        this.box.addEventListener('keydown', (e) => this.key(e));
    }

    show(change) {
        Object.assign(this, change);
        this.stale = true;
        this.painter.ask('list', true);
    }

    matcher() {
        const search = this.search.trim();
        if (/[+#]/.test(search)) {
            return (name) => filterMatches(search, name);
        }
        const part = search.toLowerCase();
        return (name) => name.toLowerCase().includes(part);
    }

    reorder(now) {
        const moving = this.sort !== 'name';
        const changed = this.seenVersion !== this.model.version;
        const big = this.order.length > 300;
        if (
            !this.stale &&
            !((moving || (changed && big)) && now - this.orderedAt > REORDER) &&
            !(changed && !big)
        ) {
            if (changed) {
                this.painter.ask('list');
            }
            return;
        }
        const matches = this.matcher();
        this.order = [...this.model.groups[this.group].values()].filter((t) => matches(t.name));
        this.order.sort((a, b) => orders[this.sort](a, b, now));
        this.seenVersion = this.model.version;
        this.orderedAt = now;
        this.stale = false;
        this.spacer.style.height = this.order.length * ROW + 'px';
    }

    paint(now) {
        this.reorder(now);
        const total = this.order.length;
        const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 2);
        const wanted = Math.min(total - first, Math.ceil(this.box.clientHeight / ROW) + 4);
        while (this.rows.length < wanted) {
            const row = new Row(this.rows.length);
            this.rows.push(row);
            this.spacer.append(row.node);
        }
        while (this.rows.length > Math.max(0, wanted)) {
            this.rows.pop().node.remove();
        }
        let active = '';
        // A topic keeps its row while scrolling by as little as possible: row = index modulo the pool's size.
        for (let index = first; index < first + wanted; index++) {
            const row = this.rows[index % this.rows.length];
            const topic = this.order[index];
            row.place(topic, index, total);
            row.fill(now);
            const selected = topic === this.model.selected;
            row.node.setAttribute('aria-selected', selected);
            active = selected ? row.node.id : active;
        }
        this.box.setAttribute('aria-activedescendant', active);
        this.paintNotes(total);
    }

    paintNotes(total) {
        const known = this.model.groups[this.group].size;
        const { notKept, lost } = this.model;
        const words = [];
        if (notKept > 0) {
            words.push(
                format.counted(notKept) +
                    ' messages not shown: the list holds ' +
                    format.counted(LIMITS.topics) +
                    ' topics with names up to ' +
                    LIMITS.name +
                    ' characters. Narrow the filter.',
            );
        }
        if (lost > 0) {
            words.push(
                format.counted(lost) + ' messages skipped: they come faster than this device can show them.',
            );
        }
        say($('topics-note'), words.join(' '));
        setText($('topics-empty'), known > 0 ? 'No topic matches the search.' : 'Nothing has arrived yet.');
        setShown($('topics-empty'), total === 0);
    }

    click(event) {
        const node = event.target.closest('[data-topic]');
        const topic = node && this.model.topic(node.dataset.topic);
        if (topic) {
            this.chosen(topic, true);
        }
    }

    // Arrow keys move the selection; the view follows. Enter opens it on a narrow screen.
    key(event) {
        const at = this.order.indexOf(this.model.selected);
        const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
        const steps = {
            ArrowDown: at + 1,
            ArrowUp: at - 1,
            Home: 0,
            End: this.order.length - 1,
            PageDown: at + page,
            PageUp: at - page,
        };
        if ((event.key === 'Enter' || event.key === ' ') && at >= 0) {
            event.preventDefault();
            this.chosen(this.order[at], true);
        } else if (event.key in steps && this.order.length > 0) {
            event.preventDefault();
            const to = Math.min(this.order.length - 1, Math.max(0, steps[event.key]));
            this.chosen(this.order[to], false);
            this.reveal(to);
        }
    }

    reveal(index) {
        const top = index * ROW;
        const { scrollTop, clientHeight } = this.box;
        if (top < scrollTop || top + ROW > scrollTop + clientHeight) {
            this.box.scrollTop = top < scrollTop ? top : top + ROW - clientHeight;
        }
        this.painter.ask('list', true);
    }
}
