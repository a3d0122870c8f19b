// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flamegraph_colors.js: the page's colours. Light enough for dark text in both schemes.
// eslint-disable-next-line no-unused-vars
const flameColors = (function () {
	'use strict';
	// Heaviest module first, the last for all others; flamegraph_svg.c has the same.
	const PALETTE = [
		[0xf2, 0xa6, 0x5a], [0x86, 0xb6, 0xe8], [0x93, 0xd0, 0x8d], [0xbd, 0xa6, 0xe6], [0x74, 0xcd, 0xc5],
		[0xee, 0x9d, 0xb7], [0xe6, 0xcc, 0x66], [0xd2, 0xae, 0x90], [0xc3, 0xc7, 0xcc],
	];

	// FNV-1a.
	function hashOf(name) {
		let hash = 2166136261;
		for (let i = 0; i < name.length; i++)
			hash = Math.imul(hash ^ name.charCodeAt(i), 16777619) >>> 0;
		return hash;
	}

	// The module's colour, up to a quarter nearer to white by the name, so that neighbours can be told apart.
	function ofModule(module, name) {
		const base = PALETTE[Math.min(module, PALETTE.length - 1)], hash = name === null ? 0 : hashOf(name);
		const towardWhite = ((hash ^ (hash >>> 16)) >>> 0) % 64;
		return 'rgb(' + base.map((c) => c + Math.floor((255 - c) * towardWhite / 256)).join(' ') + ')';
	}

	function ofName(name) {
		const hash = hashOf(name);
		return 'hsl(' + hash % 360 + ' 62% ' + (70 + (hash >>> 16) % 10) + '%)';
	}

	return {ofModule, ofName};
})();
