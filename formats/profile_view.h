// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// profile_view.h: how samples are shown, the same for every kind of profile.

#ifndef PROFD_FORMATS_PROFILE_VIEW_H
#define PROFD_FORMATS_PROFILE_VIEW_H

#include <stdbool.h>

#include "formats/label_text.h"

struct profile_view {
	bool causal; // each stack under those that caused it, oldest at the root
	struct label_choice labels;
	bool hides_traces; // samples that differ by their traces alone are one, with no label of them: for texts that list each
};

#endif
