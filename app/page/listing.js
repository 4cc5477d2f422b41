import { ask } from "./dom.js";

const PAGE = 200; // items asked for at once

/** The photos of an index that pass filters, in an order, as `asked` names them; each page of them is asked for once. */
export function listing(asked) {
  const pages = new Map();

  function page(number) {
    if (!pages.has(number)) {
      const found = ask(`/v1/items?${new URLSearchParams({ ...asked, offset: number * PAGE, limit: PAGE })}`);
      found.catch(() => pages.delete(number));
      pages.set(number, found);
    }
    return pages.get(number);
  }

  return {
    index: asked.index,
    total: async () => (await page(0)).total,
    /** The item at a place; undefined beyond the last one. */
    at: async (place) => (await page(Math.floor(place / PAGE))).items[place % PAGE],
  };
}
