import { Isolated, make } from "./dom.js";
import "./search.js";
import "./lens.js";
import "./gallery.js";
import "./runs.js";

customElements.define(
  "hdml-header",
  class extends Isolated {
    connectedCallback() {
      const mark = make("img", { src: "/page/icon.svg", alt: "" });
      this.fill(make("header", {}, mark, make("h1", {}, "hdml"), make("p", {}, "visual search, and how hard its negatives are")));
    }
  },
);
