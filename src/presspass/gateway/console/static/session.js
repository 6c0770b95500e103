// Signing out, on every page of somebody who is signed in.
const button = document.getElementById("sign-out");

button?.addEventListener("click", async () => {
  button.disabled = true;
  const answer = await fetch("/api/v1/session/end", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }).catch(() => null);
  if (answer?.ok) location.assign("/sign-in");
  else {
    button.disabled = false;
    button.textContent = "Not signed out: try again";
  }
});
