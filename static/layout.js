// How a number of products fits a screen: columns, rows and pages. Pure arithmetic.

/** The ratio of width to height of a cell in which the number becomes largest. */
const CELL_RATIO = 1.6;

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
