// Linear and Table: the two ways a model uses a matrix. Each back end has its own.
#pragma once

#include "kvring/config.hpp"

namespace kvring {

/// y = x W^T. Constructed from (backend, Matrix); called with (x [rows, in], rows, y [rows, out]).
/// Both arrays have room for a multiple of row_group rows.
template <class B>
class Linear;

/// Token embeddings, and the head that is tied to them. Constructed from (backend, Matrix).
/// embed(ids, rows, scale, x); logits(x [width], y [vocabulary]) of one row; and of many,
/// logits(x [rows, width], rows, y [rows, vocabulary]), with room as for Linear. It may also have
/// logits_of_each, with the same arguments, no room, and the bits of one row for every row.
template <class B>
class Table;

}  // namespace kvring
