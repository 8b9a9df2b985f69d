// filters.js: topic names and topic filters: matching, and what is wrong with one, in words.

// [MQTT-4.7.1, MQTT-4.7.2] Does the filter match the topic? Used by the search box when it holds + or #.
export function filterMatches(filter, topic) {
    const want = filter.split('/');
    const have = topic.split('/');
    if (topic.startsWith('$') && (want[0] === '+' || want[0] === '#')) {
        return false;
    }
    for (let i = 0; i < want.length; i++) {
        if (want[i] === '#') {
            return i === want.length - 1;
        }
        if (i >= have.length || (want[i] !== '+' && want[i] !== have[i])) {
            return false;
        }
    }
    return want.length === have.length;
}

// [MQTT-4.7.1-2, 4.7.1-3] What is wrong with a subscription filter, in words; empty when nothing is.
export function filterError(filter) {
    const levels = filter.split('/');
    if (filter === '') {
        return 'The filter is empty; # stands for every topic.';
    }
    if (levels.some((l, i) => l.includes('#') && (l !== '#' || i < levels.length - 1))) {
        return '# may only stand alone at the end: home/#.';
    }
    if (levels.some((l) => l.includes('+') && l !== '+')) {
        return '+ stands for one whole level: home/+/temperature.';
    }
    return nameError(filter);
}

// [MQTT-3.3.2-2, 4.7.3-1] What is wrong with a topic to publish to, in words; empty when nothing is.
export function topicError(topic) {
    if (topic === '') {
        return 'Which topic? The field is empty.';
    }
    return /[+#]/.test(topic) ? 'A topic to publish to must not hold + or #.' : nameError(topic);
}

function nameError(name) {
    if (name.includes('\0')) {
        return 'A topic must not hold a null character.';
    }
    return new TextEncoder().encode(name).length > 65535 ? 'Longer than 65,535 bytes.' : '';
}
