// Requests to the server: upload progress, cancellation, its error messages, and the token if it wants one.
import { byId } from "./elements.js";

const TOKEN = "melray-token";
const canceled = () => new DOMException("Canceled.", "AbortError");

// The response to a request, with `blob` and `header(name)`.
export async function request(path, { query = {}, body = null, signal = null, onProgress = null } = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const url = given.length ? `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams(given)}` : path;
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const response = await send(url, token, body, signal, onProgress);
    if (response.status === 401) {
      // Another request may have got a token in the meantime.
      if (token === sessionStorage.getItem(TOKEN)) await askForToken(await reason(response), token !== null);
      continue;
    }
    if (response.status >= 400) throw new Error(await reason(response));
    return { blob: response.response, header: (name) => response.getResponseHeader(name) };
  }
}

export async function requestJson(path, options) {
  return JSON.parse(await (await request(path, options)).blob.text());
}

// XMLHttpRequest, because fetch has no upload progress.
function send(url, token, body, signal, onProgress) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(canceled());
    const http = new XMLHttpRequest();
    http.open(body ? "POST" : "GET", url);
    http.responseType = "blob";
    if (token !== null) http.setRequestHeader("Authorization", `Bearer ${token}`);
    if (onProgress) {
      http.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
      http.upload.onload = () => onProgress(1);
    }
    http.onload = () => resolve(http);
    http.onerror = () => reject(new Error("The server did not respond: is it still running?"));
    http.onabort = () => reject(canceled());
    signal?.addEventListener("abort", () => http.abort(), { once: true });
    http.send(body);
  });
}

// The reason that the server gives: a text, or FastAPI's list of invalid parameters.
async function reason(response) {
  const text = await response.response.text();
  try {
    const { detail } = JSON.parse(text);
    if (Array.isArray(detail)) return detail.map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`).join("; ");
    if (detail) return String(detail);
  } catch {
    // Not from this server, such as a proxy's page.
  }
  return `The server answered with status ${response.status}.`;
}

let asking = null;

// Ask for the token, once for all requests that wait for it.
function askForToken(message, wasWrong) {
  asking ??= showDialog(message, wasWrong).finally(() => (asking = null));
  return asking;
}

function showDialog(message, wasWrong) {
  const [dialog, form, input] = ["token-dialog", "token-form", "token"].map(byId);
  byId("token-note").textContent = "This server needs a token: the one that it was started with. It is kept until you close this tab.";
  byId("token-error").textContent = wasWrong ? message : "";
  input.value = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    form.onsubmit = () => {
      sessionStorage.setItem(TOKEN, input.value);
      resolve();
    };
    byId("token-cancel").onclick = () => dialog.close();
    // After a submit the promise is resolved already.
    dialog.onclose = () => reject(new Error(message));
  });
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
