import { askedOf } from "./address.js";
import { make } from "./dom.js";
import { number, parameters } from "./state.js";

const SORTS = { id: "First indexed", newest: "Newest file", oldest: "Oldest file", path: "Path", label: "Label", largest: "Most pixels", smallest: "Fewest pixels" };
export const VIEWS = { photos: "Photos", figures: "Figures", failed: "Unreadable", marks: "Marks" };
const NO_FILTERS = { label: "", attribute: "", path: "", since: "", until: "", min_side: "" };
/** Nothing asked for: every photo, from the first one on. */
export const ALL_PHOTOS = { ...NO_FILTERS, sort: "id", at: 0, open: null };
const DEFAULTS = { view: "photos", ...ALL_PHOTOS };

/** What the address asks the gallery for; `at` is the place of the first photo in view, `open` the id of the one looked at. */
export function readBrowsing() {
  const given = askedOf("gallery");
  const asked = Object.fromEntries(Object.keys(NO_FILTERS).map((name) => [name, given.get(name) ?? ""]));
  const one = (name, values) => (Object.hasOwn(values, given.get(name) ?? "") ? given.get(name) : DEFAULTS[name]);
  return { ...asked, index: given.get("index"), view: one("view", VIEWS), sort: one("sort", SORTS), at: number(given.get("at")) ?? 0, open: number(given.get("open")) };
}

/** The same as parameters of an address, without what goes without saying. */
export function browsingParameters(state) {
  const said = Object.keys(DEFAULTS).filter((name) => state[name] !== DEFAULTS[name]);
  return parameters(state, ["index", ...said]);
}

/** The filters that are set. */
export function filtersOf(state) {
  return Object.fromEntries(Object.keys(NO_FILTERS).filter((name) => state[name]).map((name) => [name, state[name]]));
}

/** Controls that narrow and order the photos; `onChange` is called with what changes, and whether that is one more letter of it. */
export function browsingControls(onChange) {
  const label = make("select", { ariaLabel: "Label" });
  const attribute = make("select", { ariaLabel: "Attribute" });
  const path = make("input", { type: "search", placeholder: "shop/*.jpg", ariaLabel: "Path, as a glob", spellcheck: false });
  const since = make("input", { type: "date", ariaLabel: "Changed since" });
  const until = make("input", { type: "date", ariaLabel: "Changed until" });
  const side = make("input", { type: "number", min: 1, max: 100000, placeholder: "px", ariaLabel: "Least pixels of the shorter side" });
  const sort = make("select", { ariaLabel: "Order" }, ...Object.entries(SORTS).map(([value, words]) => make("option", { value }, words)));
  const fields = { label, attribute, path, since, until, min_side: side, sort };
  const undo = make("button", { type: "button", className: "quiet", textContent: "Clear" });
  undo.onclick = () => onChange(ALL_PHOTOS);
  const attributeField = field("Attribute", attribute);
  const element = make("form", { className: "filters", ariaLabel: "Filters" },
    field("Label", label), attributeField, field("Path", path), field("Since", since), field("Until", until),
    field("Shorter side from", side), field("Order", sort), undo);
  let typing, typed; // the timer of what is being typed, and whether a part of it has been told already
  const values = () => Object.fromEntries(Object.entries(fields).map(([name, control]) => [name, control.value.trim()]));
  const tell = (more) => {
    clearTimeout(typing);
    onChange({ ...values(), at: 0 }, more && typed);
    typed = more;
  };
  element.onsubmit = (event) => event.preventDefault();
  element.onchange = () => tell(false);
  element.oninput = (event) => {
    if (event.target !== path && event.target !== side) return;
    clearTimeout(typing);
    typing = setTimeout(() => tell(true), 300);
  };

  /** Set a choice, also to what nothing is known of. */
  function choose(control, value) {
    if (![...control.options].some((option) => option.value === value)) control.append(make("option", { value }, value || "any"));
    control.value = value;
  }

  return {
    element,
    show(state) {
      for (const [name, control] of Object.entries(fields)) {
        if (control.tagName === "SELECT") choose(control, state[name]);
        else if (control.value.trim() !== state[name]) control.value = state[name];
      }
    },
    /** The labels and attributes that there are to filter by. */
    offer({ labels, attributes }) {
      const chosen = [label.value, attribute.value];
      const option = (value, words) => make("option", { value }, words);
      label.replaceChildren(option("", "any"), ...labels.map((each) => option(each.label, `${each.label} (${each.items})`)));
      attribute.replaceChildren(option("", "any"), ...attributes.map(({ name, values: found }) =>
        make("optgroup", { label: name }, ...found.map(({ value, items }) => option(`${name}=${value}`, `${name}: ${value} (${items})`)))));
      attributeField.hidden = attributes.length === 0;
      choose(label, chosen[0]);
      choose(attribute, chosen[1]);
    },
  };
}

function field(words, control) {
  return make("label", { className: "field" }, make("span", {}, words), control);
}
