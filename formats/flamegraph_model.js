// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flamegraph_model.js: the page's data and sums; nothing of the document. flamegraph_html.c says how the data is coded.
//
// Nodes are in preorder, as in flame_tree.h: node i's descendants are i+1 … end[i]-1, node 0 is the root. Positions and
// sums are in the units of the chosen value; the view scales them.
// eslint-disable-next-line no-unused-vars
const flameModel = (function () {
	'use strict';

	// Codes above zero: site + 1, a child of the node before; a code below zero goes up that many levels first.
	function decodeNodes(codes) {
		let count = 1;
		for (const code of codes)
			if (code > 0)
				count++;
		const site = new Uint32Array(count), parent = new Uint32Array(count), end = new Uint32Array(count);
		const depth = new Uint32Array(count);
		let node = 0, last = 0;
		for (const code of codes) {
			if (code < 0) {
				for (let up = code; up < 0 && last > 0; up++)
					last = parent[last];
				continue;
			}
			node++;
			parent[node] = last;
			depth[node] = depth[last] + 1;
			site[node] = code - 1;
			last = node;
		}
		for (let i = count - 1; i >= 0; i--) {
			end[i] = Math.max(end[i], i + 1);
			if (i > 0)
				end[parent[i]] = Math.max(end[parent[i]], end[i]);
		}
		return {count, site, parent, end, depth};
	}

	function decodeLeaves(flat, ntypes) {
		const stride = 2 + ntypes, count = flat.length / stride;
		const node = new Uint32Array(count), thread = new Uint32Array(count);
		const values = Array.from({length: ntypes}, () => new Float64Array(count));
		for (let i = 0, at = 0; i < count; i++) {
			at += flat[i * stride];
			node[i] = at;
			thread[i] = flat[i * stride + 1];
			for (let v = 0; v < ntypes; v++)
				values[v][i] = flat[i * stride + 2 + v];
		}
		return {count, node, thread, values};
	}

	// What would break a line or turn the direction of writing is shown as U+FFFD.
	function plain(text) {
		return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '\ufffd');
	}

	function decodeFrames(data) {
		const frames = [];
		for (let i = 0; i < data.frames.length; i += 5)
			frames.push({
				name: plain(data.strings[data.frames[i]]), module: data.frames[i + 1],
				file: plain(data.strings[data.frames[i + 2]]), startLine: data.frames[i + 3],
				label: plain(data.strings[data.frames[i + (data.frames[i + 4] < 0 ? 0 : 4)]]),
				reason: data.frames[i + 4] < 0 ? plain(data.reasons[data.frames[i + 1]]) : '',
			});
		return frames;
	}

	function decodeThreads(data) {
		const threads = [];
		for (let i = 0; i < data.threads.length; i += 2)
			threads.push({
				name: plain(data.strings[data.threads[i]]), id: plain(String(data.threads[i + 1] || '')),
			});
		return threads;
	}

	// text: null when it is empty, undefined when it is no valid pattern.
	function pattern(text) {
		if (!text)
			return null;
		const regex = /^\/(.+)\/([imsu]*)$/.exec(text);
		try {
			return regex ? new RegExp(regex[1], regex[2]) :
				new RegExp(text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'), 'i');
		} catch (error) {
			return undefined;
		}
	}

	function create(data) {
		const nodes = decodeNodes(data.nodes), leaves = decodeLeaves(data.leaves, data.types.length);
		const frames = decodeFrames(data), threads = decodeThreads(data);
		const modules = data.modules.map((string) => plain(data.strings[string]));
		const {count, site, parent, end, depth} = nodes;
		const self = new Float64Array(count), total = new Float64Array(count), start = new Float64Array(count);

		// Sums one value over the threads that `accepts` takes (all when null), and places the frames.
		function select(type, accepts) {
			const values = leaves.values[type];
			self.fill(0);
			for (let i = 0; i < leaves.count; i++)
				if (!accepts || accepts[leaves.thread[i]])
					self[leaves.node[i]] += values[i];
			total.set(self);
			for (let i = count - 1; i > 0; i--)
				total[parent[i]] += total[i];
			const next = new Float64Array(count);
			start[0] = 0;
			for (let i = 1; i < count; i++) {
				start[i] = next[i] = next[parent[i]];
				next[parent[i]] += total[i];
			}
		}

		function frameOf(node) {
			return node === 0 ? -1 : data.sites[site[node] * 3];
		}

		function nameOf(node) {
			return node === 0 ? 'all' : frames[frameOf(node)].name;
		}

		// As nameOf, but short: for where there is little room.
		function labelOf(node) {
			return node === 0 ? 'all' : frames[frameOf(node)].label;
		}

		// Why a frame has no name; '' it has one, or nobody knows.
		function reasonOf(node) {
			return node === 0 ? '' : frames[frameOf(node)].reason;
		}

		function moduleOf(node) {
			return node === 0 ? -1 : frames[frameOf(node)].module;
		}

		// "file:line", with all lines that were seen at work here, or the line where the function begins.
		function placeOf(node) {
			if (node === 0)
				return '';
			const at = site[node] * 3, {file, startLine} = frames[data.sites[at]];
			const [min, max] = [data.sites[at + 1], data.sites[at + 2]];
			const line = min || startLine;
			return file + (file && line ? ':' + line + (max > min ? '–' + max : '') : '');
		}

		// hits[frame] tells which frames match; sum counts a stack once, however often it matches; tops are the
		// nodes it counted, the heaviest first.
		function search(match) {
			const hits = Uint8Array.from(frames, (frame) => match.test(frame.name) ? 1 : 0);
			const tops = [];
			let sum = 0, i = 1;
			while (i < count) {
				if (total[i] > 0 && hits[frameOf(i)]) {
					sum += total[i];
					tops.push(i);
					i = end[i];
				} else {
					i++;
				}
			}
			tops.sort((a, b) => total[b] - total[a] || a - b);
			return {hits, sum, tops, functions: hits.reduce((n, hit) => n + hit, 0)};
		}

		// Per function: its own value, and the value of the stacks it is in, recursion counted once.
		function functions() {
			const list = frames.map((frame, index) => ({frame, index, self: 0, total: 0, inside: 0}));
			const path = [];
			for (let i = 1; i < count; i++) {
				while (path.length && end[path[path.length - 1]] <= i)
					list[frameOf(path.pop())].inside--;
				const entry = list[frameOf(i)];
				entry.self += self[i];
				if (entry.inside++ === 0)
					entry.total += total[i];
				path.push(i);
			}
			return list.filter((entry) => entry.total > 0).sort((a, b) => b.self - a.self || b.total - a.total);
		}

		// The frame at `value` of the row `level`, searched below `from`; -1 where there is none.
		function find(from, level, value) {
			let node = from;
			while (depth[node] < level) {
				let child = node + 1;
				while (child < end[node] && !(value >= start[child] && value < start[child] + total[child]))
					child = end[child];
				if (child >= end[node])
					return -1;
				node = child;
			}
			return node;
		}

		return {
			data, frames, threads, modules, count, parent, end, depth, self, total, start, leaves,
			select, frameOf, nameOf, labelOf, reasonOf, moduleOf, placeOf, search, functions, find,
		};
	}

	// ---- Numbers as people read them -----------------------------------------------------------------------------

	const TIME = [['s', 1e9], ['ms', 1e6], ['µs', 1e3], ['ns', 1]];
	const BYTES = [['TiB', 2 ** 40], ['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10], ['B', 1]];
	const NANOSECONDS = {nanoseconds: 1, microseconds: 1e3, milliseconds: 1e6, seconds: 1e9};

	function grouped(value, digits) {
		return value.toLocaleString('en-US', {minimumFractionDigits: digits, maximumFractionDigits: digits});
	}

	function scaled(value, table) {
		const [unit, factor] = table.find((entry) => value >= entry[1]) || table[table.length - 1];
		return grouped(value / factor, factor === 1 ? 0 : 2) + ' ' + unit;
	}

	// short: without the name of what is counted.
	function format(value, [type, unit], short) {
		if (unit in NANOSECONDS)
			return scaled(value * NANOSECONDS[unit], TIME);
		if (unit === 'bytes')
			return scaled(value, BYTES);
		return grouped(value, 0) + (short ? '' : ' ' + (unit === 'count' ? type : unit));
	}

	function percent(part, whole) {
		return (whole > 0 ? 100 * part / whole : 0).toFixed(2) + '%';
	}

	return {create, pattern, format, percent};
})();
