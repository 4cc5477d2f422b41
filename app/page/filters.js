import { icon } from "./icons.js";
import { ask, make } from "./dom.js";
import { FILTERS, NO_FILTERS, SWITCHES } from "./state.js";

const WORDS = { label: "Label", attribute: "Attribute", path: "Path", since: "Since", until: "Until", min_side: "Side from" };
const SWITCHED = { min_score: { name: "Only", value: "matches" }, group: { name: "Copies", value: "grouped" } };

/** A panel that narrows what may be found; `onChange` is called with the parts of the state that change. */
export function filterPanel(onChange) {
  let state = NO_FILTERS, offered;
  const labels = offer("Label", "Add a label …", (label) => add("label", label));
  const attributes = offer("Attribute", "Add name=value …", (attribute) => add("attribute", attribute));
  const path = make("input", { type: "text", placeholder: "shop/*.jpg", spellcheck: false, autocomplete: "off" });
  const since = make("input", { type: "date" }), until = make("input", { type: "date" });
  const side = make("input", { type: "number", min: 1, max: 100000, placeholder: "any" });
  const fields = { path, since, until, min_side: side };
  for (const [name, field] of Object.entries(fields)) field.onchange = () => onChange({ [name]: field.value || null });

  const matches = toggle("Only matches", "Leave out what the index's calibration does not call a match", (on) => onChange({ min_score: on ? SWITCHES.min_score : null }));
  const copies = toggle("Group copies", "Show a photo and its copies once", (on) => onChange({ group: on ? SWITCHES.group : null }));
  const attributeRow = row("Attribute", attributes.element);
  const days = make("div", { className: "days" }, row("Changed since", since), row("until", until));
  const panel = make("div", { className: "filters" }, matches.element, copies.element, row("Label", labels.element), attributeRow, row("Path", path), days, row("Shorter side, px", side));
  const count = make("span", { className: "count" });
  const details = make("details", {}, make("summary", {}, icon("filter"), "Filters", count), panel);
  details.ontoggle = () => details.open && offerValues();

  function add(name, value) {
    if (!state[name].includes(value)) onChange({ [name]: [...state[name], value] });
  }

  /** Ask once for an index's labels and attributes, when somebody wants to filter. */
  async function offerValues() {
    const index = state.index;
    if (offered === index) return;
    offered = index;
    const about = (name) => ask(`/v1/${name}?${new URLSearchParams({ index })}`).catch(() => ({ labels: [] })); // can be typed
    const [known, statistics] = await Promise.all([about("labels"), about("statistics")]);
    if (index !== state.index) return;
    labels.fill(known.labels.map(({ label, items }) => [label, items]));
    const values = (statistics.attributes ?? []).flatMap(({ name, values }) => values.map(({ value, items }) => [`${name}=${value}`, items]));
    attributes.fill(values);
    attributeRow.hidden = values.length === 0;
    matches.refuse(uncalibrated(statistics.calibration));
  }

  return {
    element: details,
    show(next) {
      state = next;
      for (const [name, field] of Object.entries(fields)) field.value = state[name] ?? "";
      const asked = filterWords(state).length;
      matches.set(state.min_score !== null);
      copies.set(state.group !== null);
      count.textContent = asked ? String(asked) : "";
      if (details.open) offerValues();
    },
  };
}

/** Every filter that is asked for, in words, with the parts of the state that take it away. */
export function filterWords(state) {
  const switched = Object.keys(SWITCHES).filter((name) => state[name]).map((name) => ({ ...SWITCHED[name], without: { [name]: null } }));
  return FILTERS.flatMap((name) => {
    const values = Array.isArray(state[name]) ? state[name] : state[name] ? [state[name]] : [];
    const without = (value) => (Array.isArray(state[name]) ? state[name].filter((one) => one !== value) : null);
    return values.map((value) => ({ name: WORDS[name], value: String(value), without: { [name]: without(value) } }));
  }).concat(switched);
}

function row(words, field) {
  return make("label", { className: "row" }, make("span", {}, words), field);
}

/** Why an index cannot tell what is a match, from what its statistics say of its scores; undefined where it can, or is not known to. */
function uncalibrated(calibration) {
  if (calibration === null) return "The index is not calibrated yet: run hdml index again.";
  if (calibration?.basis === null) return `The index is not calibrated: ${calibration.reason}.`;
  return undefined;
}

/** A checkbox; `refuse` puts it out of use for a reason. */
function toggle(words, meaning, onSwitch) {
  const box = make("input", { type: "checkbox", ariaLabel: words }), reason = make("small", { id: `why-no-${words.split(" ").at(-1)}` });
  box.onchange = () => onSwitch(box.checked);
  box.setAttribute("aria-describedby", reason.id);
  const set = (on) => {
    box.checked = on;
    box.disabled = reason.textContent !== "" && !on; // what an address asks for can be taken back
  };
  return {
    element: make("label", { className: "switch", title: meaning }, box, make("span", {}, words, reason)),
    set,
    refuse(sentence) {
      reason.textContent = sentence ?? "";
      set(box.checked);
    },
  };
}

/** A field that offers values while one types, and gives each on once. */
function offer(name, placeholder, onValue) {
  const id = `filter-${name}`, list = make("datalist", { id });
  const input = make("input", { type: "text", ariaLabel: name, placeholder, autocomplete: "off", spellcheck: false });
  input.setAttribute("list", id);
  const take = () => {
    const value = input.value.trim();
    input.value = "";
    if (value) onValue(value);
  };
  input.onchange = take;
  // Choosing from the list is an input without a change until the field is left.
  input.oninput = () => [...list.options].some((option) => option.value === input.value) && take();
  return {
    element: make("span", { className: "offer" }, input, list),
    fill: (values) => list.replaceChildren(...values.map(([value, items]) => make("option", { value }, `${items}`))),
  };
}
