// detail.js: what is shown of the selected topic: its last value, figures, chart and last messages.

import { $, make, setText, setShown } from './dom.js';
import { Chart } from './chart.js';
import * as format from './format.js';
import { numericFields, parseJson } from './values.js';

const MESSAGES = 50;

class MessageItem {
    constructor() {
        this.node = make('li');
        const head = make('p', 'message-head');
        this.time = head.appendChild(make('time'));
        this.marks = head.appendChild(make('span', 'marks'));
        this.size = head.appendChild(make('span', 'soft'));
        this.body = make('pre');
        this.body.dir = 'auto';
        this.node.append(head, this.body);
        this.key = '';
    }

    fill(message, mode) {
        const key = message.number + mode;
        if (this.key === key) {
            return;
        }
        this.key = key;
        const body = format.body(message, mode);
        setText(this.time, format.timeExact(message.time));
        this.time.dateTime = new Date(message.time).toISOString();
        setText(
            this.marks,
            ['QoS ' + message.qos, message.retain && 'retained', message.dup && 'dup']
                .filter(Boolean)
                .join(' · '),
        );
        setText(this.size, format.bytes(message.size));
        setText(this.body, body.text);
        this.node.dataset.kind = body.kind;
    }
}

export class Detail {
    constructor(model, painter) {
        this.model = model;
        this.painter = painter;
        this.chart = new Chart();
        this.items = [];
        this.fields = [];
        this.mode = 'auto';
        this.span = 0;
        $('messages-mode').addEventListener('change', (e) => {
            this.mode = e.target.value;
            painter.ask('messages', true);
        });
        $('chart-span').addEventListener('change', (e) => {
            this.span = Number(e.target.value);
            painter.ask('chart', true);
        });
        $('chart-field').addEventListener('change', (e) => {
            this.model.selected?.setField(this.fields[e.target.selectedIndex]);
            painter.ask('chart', true);
        });
    }

    // The selection has changed: show it whole, at once.
    select() {
        const topic = this.model.selected;
        setShown($('topic-none'), !topic);
        setShown($('topic-head'), Boolean(topic));
        setShown($('messages-card'), Boolean(topic));
        setShown($('chart-card'), Boolean(topic?.series));
        this.fields = [];
        $('chart-field').replaceChildren();
        setShown($('chart-field'), false);
        setText($('topic-name').firstElementChild, topic ? format.printable(topic.name) : '');
        this.items.forEach((item) => item.node.remove());
        this.items = [];
        $('messages').scrollTop = 0;
        for (const part of ['head', 'chart', 'messages']) {
            this.painter.ask(part, true);
        }
    }

    paintHead(now) {
        const topic = this.model.selected;
        if (!topic) {
            return;
        }
        const last = topic.last;
        const value = topic.field ? topic.series?.last(1)[1][0] : undefined;
        setText($('topic-field'), value === undefined ? '' : format.printable(topic.field.label));
        setText($('topic-last'), value === undefined ? format.preview(last, 160) : format.number(value));
        setText($('stat-count'), format.counted(topic.count));
        setText($('stat-rate'), format.rate(topic.rate(now)) || '–');
        setText($('stat-bytes'), format.bytes(topic.bytes));
        setText($('stat-time'), format.time(last.time) + ' (' + format.ago(now - last.time) + ')');
        setText($('stat-qos'), last.qos + (last.retain ? ', retained' : ''));
    }

    paintChart(now) {
        const topic = this.model.selected;
        if (!topic) {
            return;
        }
        setShown($('chart-card'), Boolean(topic.series));
        if (topic.series) {
            this.paintFields(topic);
            this.chart.paint(topic.series, this.span, now);
        }
    }

    // The fields of the last JSON payload; the list is made anew only when they differ.
    paintFields(topic) {
        const json = topic.field ? parseJson(topic.last.payload) : null;
        if (json === null) {
            return;
        }
        const fields = numericFields(json);
        if (!fields.some((f) => f.label === topic.field.label)) {
            fields.unshift(topic.field);
        }
        const select = $('chart-field');
        const same =
            fields.length === this.fields.length && fields.every((f, i) => f.label === this.fields[i].label);
        if (!same && document.activeElement !== select) {
            this.fields = fields;
            select.replaceChildren(...fields.map((f) => make('option', '', format.printable(f.label))));
            select.selectedIndex = fields.findIndex((f) => f.label === topic.field.label);
        }
        setShown(select, true);
    }

    // Elements are kept and filled anew: the newest message is always the first element.
    paintMessages() {
        const topic = this.model.selected;
        if (!topic) {
            return;
        }
        const shown = topic.recent.slice(-MESSAGES).reverse();
        const top = this.items[0]?.number ?? 0;
        const fresh = shown.findIndex((m) => m.number <= top);
        const added = fresh < 0 ? shown.length : fresh;
        const list = $('messages');
        for (let i = added - 1; i >= 0; i--) {
            const item = this.items.length >= MESSAGES ? this.items.pop() : new MessageItem();
            this.items.unshift(item);
            list.prepend(item.node);
        }
        while (this.items.length > shown.length) {
            this.items.pop().node.remove();
        }
        shown.forEach((message, i) => {
            this.items[i].number = message.number;
            this.items[i].fill(message, this.mode);
        });
    }
}
