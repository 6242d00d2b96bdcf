// What the page asks the server for. The key by which the server knows the page outlives a reload.
const STORED = "dragoman-key";

let key = "";
let page = 0; // its number among those that had the key
export let choices = null; // what can be chosen for the next recording, and what is

export const wait = (ms) => new Promise((done) => setTimeout(done, ms));
export const part = (id) => document.getElementById(id);
export const address = (what, ...rest) => ["api", what, key, ...rest].join("/");

// Everything in the order in which it was called; a broken connection is an error of its own.
export class Broken extends Error {}

export const ask = async (what, place = {}, options = {}) => {
  try {
    return await fetch(address(what) + "?" + new URLSearchParams(place), options);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch's sign of a broken connection
    throw new Broken();
  }
};

// What an answer says; a connection that breaks in the middle of it is broken as well.
export const read = async (answer) => {
  try {
    return await answer.json();
  } catch (error) {
    throw new Broken();
  }
};

// An element with these properties and children.
export const made = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Names the page, by the key that it had if the server still knows that; says what is wrong.
export const visit = async () => {
  const had = sessionStorage.getItem(STORED) || "";
  try {
    const answer = await fetch("api/visit", { method: "POST", body: had });
    const told = await answer.json();
    if (!answer.ok) return told.detail;
    ({ key, page, choices } = told);
    sessionStorage.setItem(STORED, key);
    return "";
  } catch (error) {
    return "The server does not answer.";
  }
};

export const leave = () => key && navigator.sendBeacon(address("bye") + "?page=" + page);
