// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// object_key.c: see object_key.h.
//
// To ask the kernel for a name takes microseconds (/proc/self/fd is a path like any other), and a server's descriptors are asked for all the time. So
// each descriptor's last name is remembered, with what it then was: an inode number, and when that was born, for file systems give numbers of
// deleted files again at once. One statx(2) tells whether it is that still. Births are told apart by the kernel's tick: what comes twice in one
// is told apart by close(2), which forgets. A file that is renamed keeps the name it had here first.

#include "profd/object_key.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "profd/object_name.h"
#include "profd/raw.h"
#include "profd/store.h"

#define DESCRIPTORS 1024u // a power of two; others share their places
#define KEY_BITS 21       // of a word; above them is what the descriptor was, hashed
#define KEY_MASK ((1u << KEY_BITS) - 1)
_Static_assert(WIRE_STORE_MAX_BUCKETS <= KEY_MASK, "a bucket's number + 1");

static uint64_t known[DESCRIPTORS]; // atomic
static bool any;                    // atomic

void profd_object_keys_forget(void)
{
	if (__atomic_exchange_n(&any, false, __ATOMIC_RELAXED))
		memset(known, 0, sizeof(known));
}

void profd_object_key_closed(int fd)
{
	uint64_t *place = &known[(uint32_t)fd & (DESCRIPTORS - 1)];

	// Most are nothing: their memory is never touched.
	if (__atomic_load_n(place, __ATOMIC_RELAXED))
		__atomic_store_n(place, 0, __ATOMIC_RELAXED);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

// Sockets have numbers of their own, never given twice; so have pipes. Anonymous inodes share one: only the call tells an epoll from the others.
static bool is_told_by(const struct statx *what, enum wire_wait kind)
{
	switch (what->stx_mode & S_IFMT) {
	case S_IFSOCK:
	case S_IFIFO:
	case S_IFCHR:
		return true;
	case 0:
		return kind == WIRE_WAIT_EPOLL;
	default:
		return (what->stx_mask & STATX_BTIME) != 0;
	}
}

// What the descriptor is. false: that cannot be told for certain.
static bool identify(enum wire_wait kind, int fd, uint64_t *ret_identity, bool *ret_is_socket)
{
	struct statx what = {.stx_mode = 0};
	uint64_t hash = (uint64_t)(uint32_t)fd << 1 | (kind == WIRE_WAIT_EPOLL);

	if (profd_raw6(SYS_statx, fd, (long)"", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
		       STATX_TYPE | STATX_INO | STATX_NLINK | STATX_BTIME, (long)&what, 0) != 0 ||
	    !is_told_by(&what, kind))
		return false;
	hash = mix(hash, (uint64_t)what.stx_dev_major << 32 | what.stx_dev_minor);
	hash = mix(hash, what.stx_ino);
	if (what.stx_mask & STATX_BTIME)
		hash = mix(hash, (uint64_t)what.stx_btime.tv_sec * 1000000000u + what.stx_btime.tv_nsec);
	*ret_identity =
		mix(hash, (uint64_t)(what.stx_nlink == 0) << 32 | (what.stx_mode & S_IFMT)) & ~(uint64_t)KEY_MASK;
	*ret_is_socket = (what.stx_mode & S_IFMT) == S_IFSOCK;
	return true;
}

// A socket without a peer may get one, and another name by that; a datagram one, any number of times.
static bool name_may_change(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	int type = 0;

	if (profd_raw3(SYS_getpeername, fd, (long)&peer, (long)&size) != 0)
		return true;
	size = sizeof(type);
	return profd_raw6(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, (long)&type, (long)&size, 0) != 0 ||
	       type == SOCK_DGRAM;
}

static uint32_t find(int fd)
{
	uint64_t words[PROFD_OBJECT_NAME_WORDS];
	struct profd_store_stack text = {.pcs = words, .stop = WIRE_STOP_END};
	const struct wire_bucket *bucket;

	text.npcs = profd_object_name(fd, words);
	bucket = profd_store_bucket(WIRE_BUCKET_OBJECT, &text, 0, 0);
	return bucket ? profd_store_number(bucket) + 1 : 0;
}

uint32_t profd_object_key(enum wire_wait kind, int fd)
{
	uint64_t *place = &known[(uint32_t)fd & (DESCRIPTORS - 1)], seen, identity;
	bool is_socket;
	uint32_t key;

	if (!identify(kind, fd, &identity, &is_socket))
		return find(fd);
	seen = __atomic_load_n(place, __ATOMIC_RELAXED);
	if (seen != 0 && (seen & ~(uint64_t)KEY_MASK) == identity)
		return (uint32_t)seen & KEY_MASK;
	key = find(fd);
	if (key && !(is_socket && name_may_change(fd))) {
		__atomic_store_n(&any, true, __ATOMIC_RELAXED);
		__atomic_store_n(place, identity | key, __ATOMIC_RELAXED);
	}
	return key;
}
