"""Which axes of a volume the static scheduler of ascend910 gets to see.

It merges no axes, splits one of them over the cores and one over the on-chip buffer, and has an
instruction for a channel vector only in some shapes. So the same volume costs more or less by how
its axes are folded. docs/dsl_schedules.md has the costs; sizes here are elements.
"""

from .layout import Layout

CORES = 32
# Of a vector in NDC1HWC0 16 lanes lie together, a quarter of an instruction's 64. A row of 4 or
# more of them is spread first and then read whole.
SHORTEST_ROW, LONGEST_ROW = 4, 64
APPLY_TILE = 11_000  # no tile of Bn3dApply or Bn3dGradApply is larger
LEAST_APPLY_TILE = 8192  # the largest of Bn3dGradApply, whose are shorter
LONG_TILE = 2048  # every tile reads the vectors anew: a tenth of the instructions at this length
REDUCE_TILE = {1: 8192, 2: 6656}  # of the reductions in NCDHW, by their number of volumes
MOST_SPREAD = 4096  # of a vector spread over a sample, so that a tile holds several
CORE_BYTES = 1024  # the scheduler gives no core less
MIN_USES = 4  # of a spread row by each core, below which spreading it does not pay


def foldings(x, volumes, reduces):
    """Layouts to try in this order: a scheduler may decline the first."""
    if x["format"] == "NDC1HWC0":
        n, d, c1, h, w, c0 = x["shape"]
        if reduces:
            return [_reduced(n * d, c1, h * w, c0)]
        return [_applied(n * d, c1, h, w, c0)]
    n, c, d, h, w = x["shape"]
    size = d * h * w
    if size == 1:
        return [_channels_only(n, c)]
    plain = Layout([n, c, size], [1, c, 1], [0, 2])
    if not reduces:
        return [_applied_ncdhw(n, c, size, plain)]
    tile = REDUCE_TILE[volumes]
    share = n * size // CORES
    if n < CORES and share > tile and share % tile:
        # Cores and tiles would split the same axis, and tiles that do not divide a core's share
        # overlap: up to 1.58 times the reads. Rows of more than half a tile keep them apart.
        for row in range(tile // 8 * 8, tile // 2, -8):
            if size % row == 0:
                return [Layout([n, c, size // row, row], [1, c, 1, 1], [0, 2, 3]), plain]
    return [plain]


def _applied_ncdhw(n, c, size, plain):
    short = size < 64 and size % 8 == 0 and c * size <= MOST_SPREAD
    if short and n >= MIN_USES * CORES:
        # What is spread over one sample serves the others.
        return Layout([n, c, size], [1, c, 1], [0, 2], [1, c, size])
    part = _balanced(n, c, 4 * n * c * size)
    if part < c:
        return Layout([n, part, c // part, size], [1, part, c // part, 1], [0, 3])
    return plain


def _channels_only(n, c):
    """A last axis of one is left out: it would be reduced in bursts of one element."""
    row = min(_rows(n), default=None)
    if row and c < 64 and c % 8 == 0 and n // row >= MIN_USES * CORES:
        return Layout([n // row, row, c], [1, 1, c], [0, 1], [1, row, c])
    return Layout([n, c], [1, c], [0])


def _applied(nd, c1, h, w, c0):
    """A vector (1, C1, 1, 1, 16) over (N * D, C1, h, w, 16) with h, w > 1 is read at full width.

    So it is for the built-in operators. The template gives this up where a tile holds whole
    samples; a spread row does as well there.
    """
    area = h * w
    if area == 1 and c1 > 1:
        return _channels_only(nd, c1 * c0)
    merged = _merged(nd * area, c0) if c1 == 1 else None
    if merged:
        return merged
    row = min(_rows(area), default=None)
    part = _balanced(nd, c1, 4 * nd * c1 * area * c0)
    if part < c1 and row and row < area:
        volume = [nd, part, c1 // part, area // row, row, c0]
        spread = [1, part, c1 // part, 1, row, c0]
        return Layout(volume, [1, part, c1 // part, 1, 1, c0], [0, 3, 4], spread)
    if area > SHORTEST_ROW + 1 and (nd < CORES or c1 * area * c0 > APPLY_TILE):
        width = w if h > 1 and w > 1 else row
        if width and width < area:
            return Layout([nd, c1, area // width, width, c0], [1, c1, 1, 1, c0], [0, 2, 3])
    if row and nd * (area // row) >= MIN_USES * CORES:
        return _with_row(nd, c1, area, row, c0)
    return Layout([nd, c1, area, c0], [1, c1, 1, c0], [0, 2])


def _merged(length, c0):
    """All axes but C0 as one, in the shortest rows that leave it long tiles.

    With ones in front a core's share of the axis is cut by a divisor: a prime one would be moved
    row by row. Where no row helps it comes first, where any tile does, and the vector is spread.
    """
    rows, cores, balance = _rows(length), _cores(4 * length * c0), None
    for row in rows:
        count = length // row
        share = max(1, count // cores)
        most = max(1, min(share, LEAST_APPLY_TILE // (row * c0)))
        tile = next(tile for tile in range(most, 0, -1) if share % tile == 0)
        busiest = -(-count // cores) / count
        balance = balance or 1.1 * busiest
        is_long = tile == share or tile * row * c0 >= LONG_TILE
        if count > 1 and is_long and busiest <= balance:
            return Layout([1, 1, count, row, c0], [1, 1, 1, 1, c0], [2, 3])
    if not rows or rows[0] == length:
        return None
    return Layout([length // rows[0], rows[0], c0], [1, 1, c0], [0, 1], [1, rows[0], c0])


def _reduced(nd, c1, area, c0):
    """In rows, where that saves work and leaves the cores as balanced as without."""
    if area == 1 and c1 > 1:
        # A reduced axis of one would be read in bursts of 32 bytes.
        lanes = c1 * c0
        if nd % 64 == 0 and nd > 64:  # cores and tiles on axes of their own
            return Layout([64, nd // 64, lanes], [1, 1, lanes], [0, 1])
        return Layout([nd, lanes], [1, lanes], [0])
    size = 4 * nd * area * c0
    plain, _ = _split(nd, area, size)
    row = _best_row(nd, area, size, plain)
    merged = _best_row(1, nd * area, size, plain) if c1 == 1 else None
    if merged and not row:
        return Layout([nd * area // merged, merged, c0], [1, 1, c0], [0, 1], [1, merged, c0])
    if row:
        return _with_row(nd, c1, area, row, c0)
    return Layout([nd, c1, area, c0], [1, c1, 1, c0], [0, 2])


def _balanced(outer, channels, size):
    """The divisor of the channels that makes the better axis to split over the cores, if any."""
    best, part = 0.85 * _split(outer, channels, size)[0], channels
    if 1 < outer < CORES:  # behind axes of one the last part may be shorter
        for divisor in range(-(-CORES // outer), channels):
            if channels % divisor == 0:
                busiest, _ = _split(outer, divisor, size)
                if busiest < best:
                    best, part = busiest, divisor
    return part


def _with_row(nd, c1, area, row, c0):
    volume = [nd, c1, area // row, row, c0]
    return Layout(volume, [1, c1, 1, 1, c0], [0, 2, 3], [1, c1, 1, row, c0])


def _rows(length):
    return [row for row in range(SHORTEST_ROW, LONGEST_ROW + 1) if length % row == 0]


def _best_row(outer, length, size, plain):
    """The row of least work, of those that keep the cores in balance, or None.

    Work in instructions, against one for every 16 lanes: spreading a row takes its length and a
    quarter, reading it a quarter, rounded up.
    """
    found = []
    for row in _rows(length):
        rows = outer * (length // row)
        busiest, blocks = _split(outer, length // row, size)
        work = 1.25 * blocks / rows + -(-row // 4) / row
        if work < 1 and busiest <= 1.1 * plain:
            found.append((work, row))
    return min(found, default=(None, None))[1]


def _split(outer, inner, size):
    """(busiest core against the mean, blocks) of two axes: those reduced, or the leading ones.

    An axis with nothing but ones in front of it is cut into parts of which the last may be
    shorter. Another is cut by a divisor: the one below CORES blocks if that leaves few idle, or
    if the next makes too many blocks or too small ones, else the next. `size` leaves C1 out.
    """
    cores = _cores(size)
    if outer == 1 or outer >= cores:
        length = inner if outer == 1 else outer
        part = max(1, length // cores)
        full, rest = divmod(length, part)
        rounds, more = divmod(full, CORES)
        most = (rounds + 1) * part if more else rounds * part + rest
        return most * CORES / length, full + (rest > 0)
    part = inner // (cores // outer)
    if part and inner % part == 0:
        blocks = outer * (inner // part)
    else:
        divisors = [divisor for divisor in range(1, inner + 1) if inner % divisor == 0]
        above = next((divisor for divisor in divisors if outer * divisor > CORES), 1)
        below = max((divisor for divisor in divisors if divisor < above), default=1)
        too_many = outer * above > 4 * CORES or size < outer * above * CORE_BYTES
        blocks = outer * (below if too_many or outer * below > 0.85 * CORES else above)
    return -(-blocks // CORES) * CORES / blocks, blocks


def _cores(size):
    return max(1, min(CORES, -(-size // CORE_BYTES)))
