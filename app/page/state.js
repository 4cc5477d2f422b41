// What the Search tab is asked for, kept in the address.

import { askedOf, writeAddress } from "./address.js";

const ONE = ["index", "id", "photo", "crop", "k", "path", "since", "until", "min_side", "min_score", "group", "open"];
const MANY = ["more", "less", "label", "attribute"];
export const COUNTS = [10, 20, 50, 100];
export const FILTERS = ["label", "attribute", "path", "since", "until", "min_side"];
/** What a search alone can be told: only matches, and copies of a photo once. */
export const SWITCHES = { min_score: "auto", group: "true" };
export const NO_FILTERS = { label: [], attribute: [], path: null, since: null, until: null, min_side: null, min_score: null, group: null };
export const NO_QUERY = { id: null, photo: null, crop: null, more: [], less: [], open: null };

/** The state that an address holds; whatever in it cannot be meant is left out. */
export function readState() {
  const given = askedOf("search");
  const state = Object.fromEntries([...ONE.map((name) => [name, given.get(name)]), ...MANY.map((name) => [name, given.getAll(name)])]);
  state.id = number(state.id);
  state.open = number(state.open);
  state.k = COUNTS.includes(number(state.k)) ? number(state.k) : 20;
  state.crop = readCrop(state.crop);
  for (const [name, on] of Object.entries(SWITCHES)) state[name] = state[name] === on ? on : null;
  for (const name of ["more", "less"]) state[name] = state[name].map(number).filter((id) => id !== null);
  return state;
}

/** Put a state into the address, as a step of its own unless it replaces the present one. */
export function writeState(state, how) {
  const said = parameters(state, [...ONE, ...MANY]);
  if (state.k === 20) said.delete("k");
  writeAddress("search", said, how);
}

/** Some parts of a state as parameters of a request or an address. */
export function parameters(state, names) {
  const found = new URLSearchParams();
  for (const name of names) {
    const value = state[name];
    if (name === "crop") value && found.set(name, value.map((share) => share.toFixed(4)).join(","));
    else for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined && one !== "") found.append(name, one);
  }
  return found;
}

export function hasQuery(state) {
  return state.photo !== null || state.id !== null || state.more.length + state.less.length > 0;
}

export function hasFilters(state) {
  return FILTERS.some((name) => (Array.isArray(state[name]) ? state[name].length > 0 : state[name]));
}

/** A whole number from words; null where they are none. */
export function number(words) {
  return /^\d{1,15}$/.test(words ?? "") ? Number(words) : null;
}

function readCrop(words) {
  const sides = (words ?? "").split(",").map(Number);
  const [left, top, right, bottom] = sides;
  const meant = sides.length === 4 && 0 <= left && left < right && right <= 1 && 0 <= top && top < bottom && bottom <= 1;
  return meant ? sides : null;
}
