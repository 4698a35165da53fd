// The token: from the address (#token=...), kept for this tab, or asked for.

document.body.insertAdjacentHTML("beforeend", `
  <dialog id="ask" aria-labelledby="ask-title">
    <form method="dialog">
      <h2 id="ask-title">Token</h2>
      <p id="ask-why"></p>
      <label for="token" class="hidden">Token</label>
      <input id="token" type="password" autocomplete="off" spellcheck="false">
      <p class="actions"><button id="cancel" type="button">Cancel</button>
        <button class="primary" value="ok" type="submit">Continue</button></p>
    </form>
  </dialog>`);

const [dialog, why, input] = ["ask", "ask-why", "token"].map((id) => document.getElementById(id));
document.getElementById("cancel").addEventListener("click", () => dialog.close("cancel"));

/** Null where there is none yet. Takes it out of the address. */
export function knownToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return given ?? sessionStorage.getItem("token");
}

/** Null if the user cancels. wrong: the one they gave before. */
export function askToken(wrong) {
  why.textContent = wrong ? "That token was wrong." : "This server asks for a token.";
  input.value = "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const token = (dialog.returnValue === "ok" && input.value.trim()) || null;
      if (token) sessionStorage.setItem("token", token);
      resolve(token);
    }, { once: true });
  });
}
