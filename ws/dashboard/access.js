// access.js: the access log, live: who connected, who left and why, what was denied, newest first.
//
//   batch --message(payload)--> readLine --> AccessLog (the last KEPT lines) <--reads-- AccessView --> table
//
// The lines come from the broker on one topic (access_log_topic). What stands in them was chosen by strangers,
// and another broker may let anybody publish there: every field is checked for its type, cut, and shown as
// text only. While the page is paused lines are kept and not painted.

import { $, make, say, setShown, setText } from './dom.js';
import * as format from './format.js';
import { filterMatches, topicError } from './filters.js';

export const KEPT = 500;
const CELL = 160; // characters shown of a field; all of it is in the cell's title
const columns = ['time', 'event', 'client', 'user', 'address', 'listener', 'topic', 'reason', 'rule'];
const titles = ['Time', 'Event', 'Client', 'User', 'Address', 'Listener', 'Topic', 'Reason', 'Rule'];
// What "allowed": false is called, and true where that is news.
const denials = { connect: 'refused', publish: 'denied', subscribe: 'denied', revoked: '', disconnect: '' };
const reports = { left_out: ' left out: access_log_rate was reached', lost: ' lost: the log file took no more' };

// One line as { time, state: allowed|ended|denied|report, badge, event, client ... rule, text }, or null when the payload
// is none.
export function readLine(payload) {
    let line;
    try {
        line = JSON.parse(format.decodeText(payload));
    } catch {
        return null;
    }
    if (typeof line !== 'object' || line === null || typeof line.event !== 'string') {
        return null;
    }
    const text = (name) => (typeof line[name] === 'string' ? format.printable(line[name]) : '');
    const entry = { time: Date.parse(text('time')) };
    columns.slice(1).forEach((name) => (entry[name] = text(name)));
    entry.state = line.allowed === true ? 'allowed' : line.event === 'disconnect' ? 'ended' : 'denied';
    entry.badge = line.allowed === true || !Object.hasOwn(denials, line.event) ? '' : denials[line.event];
    if (Object.hasOwn(reports, line.event)) {
        entry.state = 'report';
        entry.reason = (Number.isFinite(line.count) ? format.counted(line.count) : '?') + reports[line.event];
    }
    addDetails(entry, line, text);
    entry.text = columns
        .map((name) => entry[name])
        .concat(entry.state, entry.badge)
        .join('\n')
        .toLowerCase();
    return entry;
}

function addDetails(entry, line, text) {
    if (Number.isInteger(line.port)) {
        entry.address += ':' + line.port;
    }
    entry.listener += text('tls') && ' · ' + text('tls');
    if (entry.topic && Number.isInteger(line.qos)) {
        entry.topic += ' (QoS ' + line.qos + ')';
    }
    for (const name of Array.isArray(line.cut) ? line.cut : []) {
        if (columns.includes(name)) {
            entry[name] += '…';
        }
    }
}

export class AccessLog {
    constructor() {
        this.clear();
    }

    clear() {
        this.lines = []; // newest first
        this.count = 0; // all that ever came; the number of the newest
        this.strange = 0; // messages that were no lines
    }

    message(payload) {
        const line = readLine(payload);
        if (line === null) {
            this.strange++;
            return;
        }
        line.number = ++this.count;
        this.lines.unshift(line);
        if (this.lines.length > KEPT) {
            this.lines.pop();
        }
    }
}

function makeRow(line) {
    const row = make('tr');
    row.role = 'row';
    row.dataset.state = line.state;
    columns.forEach((name, i) => {
        const full = name === 'time' ? shownTime(line.time) : line[name];
        const cell = make('td', 'access-' + name, full.length > CELL ? full.slice(0, CELL) + '…' : full);
        cell.role = 'cell';
        cell.dataset.title = titles[i];
        cell.title = name === 'time' && full ? new Date(line.time).toString() : full;
        row.append(cell);
    });
    if (line.badge) {
        row.children[1].append(' ', make('span', 'badge', line.badge));
    }
    return row;
}

function shownTime(time) {
    return Number.isNaN(time) ? '' : format.timeExact(time);
}

export class AccessView {
    // isSubscribed(filter): whether the list of topics is subscribed to just that.
    constructor(link, painter, isSubscribed) {
        this.link = link;
        this.isSubscribed = isSubscribed;
        this.painter = painter;
        this.log = new AccessLog();
        this.topic = $('access-topic').value;
        this.wanted = false; // somebody has looked at the view: it stays subscribed
        this.shown = []; // the rows, newest first, with their numbers
        this.search = '';
        $('access-form').addEventListener('submit', (e) => {
            e.preventDefault();
            this.choose($('access-topic').value.trim());
        });
        $('access-filter').addEventListener('input', (e) => {
            this.search = e.target.value.toLowerCase();
            this.shown.forEach((item) => this.sieve(item));
            painter.ask('access', true);
        });
    }

    // Whether this message is for here; filter is what the page has subscribed to for its list of topics.
    takes(name) {
        return this.wanted && name === this.topic;
    }

    // Whether the list of topics gets it as well.
    shares(filter) {
        return filterMatches(filter, this.topic);
    }

    open() {
        if (!this.wanted) {
            this.wanted = true;
            this.subscribe();
        }
    }

    connected() {
        if (this.wanted) {
            this.subscribe();
        }
    }

    clear() {
        this.wanted = false;
        this.forget();
        say($('access-status'), '');
    }

    forget() {
        this.log.clear();
        this.shown.forEach((item) => item.row.remove());
        this.shown = [];
    }

    async choose(topic) {
        const problem = topicError(topic);
        $('access-topic').setAttribute('aria-invalid', problem !== '');
        if (problem) {
            this.say(problem, 'failed');
            return;
        }
        if (topic !== this.topic) {
            const before = this.topic;
            this.topic = topic;
            this.forget();
            this.painter.ask('access', true);
            if (!this.isSubscribed(before)) {
                await this.link.unsubscribe(before).catch(() => {});
            }
        }
        this.wanted = true;
        await this.subscribe();
    }

    async subscribe() {
        const topic = this.topic;
        try {
            await this.link.subscribe(topic, 0);
            if (topic === this.topic) {
                this.say('', 'ok');
            }
        } catch (err) {
            if (topic === this.topic && this.link.state === 'connected') {
                this.say(format.printable(topic) + ': ' + err.message + ' ' + this.advice(), 'failed');
            }
        }
    }

    advice() {
        const name = format.printable(this.topic);
        return (
            'The broker publishes it with “access_log_topic ' +
            name +
            '” in its configuration, to users to whom its acl_file gives “topic read ' +
            name +
            '”.'
        );
    }

    say(words, state) {
        $('access-status').dataset.state = state;
        say($('access-status'), words);
    }

    sieve(item) {
        setShown(item.row, item.text.includes(this.search));
    }

    // New rows above the others; what is no longer kept goes.
    paint(paused) {
        if (!paused) {
            this.paintRows();
        }
        this.paintWords();
    }

    paintRows() {
        const newest = this.shown[0]?.number ?? 0;
        const fresh = this.log.lines.filter((line) => line.number > newest);
        const added = fresh.map((line) => ({ number: line.number, text: line.text, row: makeRow(line) }));
        added.forEach((item) => this.sieve(item));
        $('access-rows').prepend(...added.map((item) => item.row));
        this.shown = added.concat(this.shown);
        this.shown.splice(KEPT).forEach((item) => item.row.remove());
    }

    paintWords() {
        const seen = this.shown.filter((item) => !item.row.hidden).length;
        const strange = this.log.strange;
        setText(
            $('access-count'),
            (this.search ? format.counted(seen) + ' of ' : '') +
                format.counted(this.shown.length) +
                ' lines' +
                (this.log.count > KEPT ? ', the last of ' + format.counted(this.log.count) : '') +
                (strange > 0 ? '; ' + format.counted(strange) + ' messages were no lines of an access log' : ''),
        );
        setShown($('access-table'), seen > 0);
        const failed = !$('access-status').hidden;
        say(
            $('access-empty'),
            seen > 0 || failed
                ? ''
                : this.shown.length > 0
                  ? 'No line has that text.'
                  : 'Nothing yet. ' + this.advice(),
        );
    }
}
