// publish.js: the publish box, and what became of each message: confirmed by the broker, sent (QoS 0), or
// lost.

import { $, make, say, setText } from './dom.js';
import * as format from './format.js';
import { topicError } from './filters.js';

const KEPT = 5;
const confirmations = [
    'sent; QoS 0 is not confirmed',
    'confirmed by the broker (PUBACK)',
    'confirmed by the broker (PUBCOMP)',
];

export class Publisher {
    constructor(link) {
        this.link = link;
        this.filled = '';
        $('pub-form').addEventListener('submit', (e) => {
            e.preventDefault();
            this.send();
        });
        $('pub-payload').addEventListener('keydown', (e) => {
            if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) {
                e.preventDefault();
                $('pub-form').requestSubmit();
            }
        });
    }

    // The selected topic is offered, unless the user wrote another one.
    offer(name) {
        const field = $('pub-topic');
        if ((field.value === '' || field.value === this.filled) && !name.startsWith('$')) {
            field.value = name;
            this.filled = name;
        }
    }

    clear() {
        $('pub-topic').value = '';
        $('pub-payload').value = '';
        $('pub-log').replaceChildren();
        say($('pub-error'), '');
    }

    async send() {
        const topic = $('pub-topic').value;
        const qos = Number($('pub-qos').value);
        const problem =
            topicError(topic) || (this.link.state === 'connected' ? '' : 'Not connected: nothing was sent.');
        say($('pub-error'), problem);
        $('pub-topic').setAttribute('aria-invalid', topicError(topic) !== '');
        if (problem) {
            return;
        }
        const entry = this.log(topic);
        const from = performance.now();
        try {
            await this.link.publish(topic, $('pub-payload').value, qos, $('pub-retain').checked);
            const took = Math.max(1, Math.round(performance.now() - from));
            this.settle(
                entry,
                qos === 0 ? 'sent' : 'acked',
                confirmations[qos] + (qos === 0 ? '' : ', ' + took + ' ms'),
            );
        } catch (err) {
            this.settle(entry, 'failed', 'not confirmed: ' + err.message);
        }
    }

    log(topic) {
        const entry = make('li');
        entry.append(
            make('time', 'soft', format.time(Date.now())),
            make('bdi', '', format.printable(topic)),
            make('span', 'outcome', 'waiting for the broker …'),
        );
        entry.dataset.state = 'waiting';
        $('pub-log').prepend(entry);
        while ($('pub-log').children.length > KEPT) {
            $('pub-log').lastElementChild.remove();
        }
        return entry;
    }

    settle(entry, state, words) {
        entry.dataset.state = state;
        setText(entry.lastElementChild, words);
    }
}
