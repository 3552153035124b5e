// The button says what it starts, and using a card's choices picks the card. The form works without this.
const form = document.querySelector("#spawn_form");
const button = form?.querySelector("button[type=submit]");

function chosen() {
  return form.querySelector("input[name=profile]:checked");
}

function name_button() {
  const title = chosen()?.labels[0]?.firstChild?.textContent.trim();
  if (button) button.textContent = title ? `Start ${title}` : "Start";
}

if (form) {
  form.addEventListener("change", (event) => {
    const radio = event.target.closest(".gpu-launcher-card")?.querySelector("input[name=profile]");
    if (radio && !radio.disabled) radio.checked = true;
    name_button();
  });
  name_button();
}
