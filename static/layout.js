// How a number of products fits a screen: columns, rows and pages; and a text a box. Pure arithmetic.

/** The ratio of width to height of a cell in which the number becomes largest. */
const CELL_RATIO = 1.6;
/** More lines would be too small to read. */
const MOST_LINES = 5;

/**
 * The arrangement of `count` cells that makes them large and leaves few places empty. `width`, `height` and `gap` are those
 * of the grid, `minWidth` and `minHeight` the smallest of a readable cell, all in the same unit.
 *
 * With `pages`, cells that do not fit are on further pages of about the same number; without, `cellHeight` may be below
 * `minHeight`. There is always at least one column, one row and one page.
 */
export function arrange(count, { width, height, gap, minWidth, minHeight, pages: mayPage }) {
  const fit = (length, min) => Math.max(1, Math.floor((length + gap) / (min + gap)));
  const mostColumns = fit(width, minWidth);
  const most = mayPage ? mostColumns * fit(height, minHeight) : Infinity;
  const pages = Math.max(1, Math.ceil(count / most));
  const perPage = Math.max(1, Math.ceil(count / pages));
  let best = null;
  for (let columns = 1; columns <= Math.min(perPage, mostColumns); columns += 1) {
    const rows = Math.ceil(perPage / columns);
    const cellHeight = (height + gap) / rows - gap;
    if (mayPage && best !== null && cellHeight < minHeight) continue;
    const filled = perPage / (columns * rows);
    const size = Math.min(width / columns / CELL_RATIO, cellHeight) * filled;
    if (best === null || size > best.size || (mayPage && best.cellHeight < minHeight)) {
      best = { columns, rows, cellHeight, size };
    }
  }
  return { columns: best.columns, rows: best.rows, cellHeight: best.cellHeight, pages, perPage };
}

/**
 * The largest font with which words fit a box, and its lines; `minSize` if they do not fit. `lineHeight` and each word's
 * `width` and `space` before it are in em.
 */
export function fitText(words, { width, height, lineHeight, minSize, maxSize }) {
  let best = { size: minSize, lines: Math.max(1, Math.floor(height / (minSize * lineHeight))) };
  for (let lines = 1; lines <= Math.min(MOST_LINES, words.length); lines += 1) {
    const size = Math.min(maxSize, width / narrowest(words, lines), height / (lines * lineHeight));
    if (size > best.size) best = { size, lines };
  }
  return best;
}

/** The smallest width at which the words take at most so many lines. */
function narrowest(words, most) {
  let width = Math.max(...words.map((word) => word.width));
  for (;;) {
    let [lines, line, next] = [1, 0, Infinity];
    for (const word of words) {
      const longer = line === 0 ? word.width : line + word.space + word.width;
      if (longer <= width) {
        line = longer;
      } else {
        // The smallest width that makes one of these lines longer.
        next = Math.min(next, longer);
        lines += 1;
        line = word.width;
      }
    }
    if (lines <= most) return width;
    width = next;
  }
}
