/** The form is the state of the page, and the address has it too: a view can be shared. */

import { SECTIONS } from "./api.js";

const DEMO = document.documentElement.dataset.demo === "true";

/** Fill the forms from the address, and keep what is required among what is included. */
export function prepare(form, ...others) {
  restore([...form.elements, ...others.flatMap(({ elements }) => [...elements])]);
  for (const name of SECTIONS) form.elements[`fault-${name}`].disabled = !DEMO;
  if (!DEMO) form.elements.user.removeAttribute("list");
  form.addEventListener("change", ({ target }) => keepConsistent(form, target));
  keepConsistent(form);
}

/** @returns {import("./api.js").Query} */
export function read(form) {
  const data = new FormData(form);
  const faults = SECTIONS.map((name) => [name, data.get(`fault-${name}`)]);
  return {
    user: Number(data.get("user")),
    timeout: Number(data.get("timeout")),
    include: data.getAll("include"),
    require: data.getAll("require"),
    faults: Object.fromEntries(faults.filter(([, fault]) => fault)),
  };
}

/** Write what the forms say into the address. */
export function share(...forms) {
  const said = forms.flatMap((form) => [...new FormData(form)]).filter(([, value]) => value !== "");
  history.replaceState(null, "", `?${new URLSearchParams(said)}${location.hash}`);
}

function restore(controls) {
  const said = new URLSearchParams(location.search);
  for (const control of controls) {
    if (control.type === "checkbox") {
      if (said.has(control.name))
        control.checked = said.getAll(control.name).includes(control.value);
    } else if (said.has(control.name)) {
      control.value = said.get(control.name);
      if (control.selectedIndex === -1) control.selectedIndex = 0;
    }
  }
}

/** What is required is included; what is not included cannot be required; something must be. */
function keepConsistent(form, changed) {
  for (const name of SECTIONS) {
    const [include, require] = ["include", "require"].map((what) =>
      form.querySelector(`[name=${what}][value=${name}]`),
    );
    if (include === changed) require.checked &&= include.checked;
    else include.checked ||= require.checked;
  }
  const boxes = [...form.elements.include];
  const none = boxes.every((box) => !box.checked);
  boxes[0].setCustomValidity(none ? "Include at least one section." : "");
}
