// The demo page as a person uses it. Arguments: the server, a folder for pictures.
const [url, pictures] = own;

await drive(async () => {
  await page.goto(`${url}/?user=alice&raw=bob&room=tea`);
  await until("sio-state", /connected over websocket/);
  await until("raw-state", /connected over websocket/);
  await until("members", /alice[\s\S]*bob/);
  await tell("connected");

  // Both panes talk, each line once, and as text.
  await t("sio-input").fill("Good morning! Is the raw side listening?");
  await t("sio-input").press("Enter");
  await until("raw-messages", /Good morning/);
  await t("raw-input").fill("It is. No library here, only a WebSocket.");
  await t("raw-send").click();
  await until("sio-messages", /No library/);
  for (const pane of ["sio-messages", "raw-messages"]) {
    await until(pane, /Good morning/);
    assert((await count(pane, /Good morning/g)) === 1, `${pane} has the line more than once`);
    assert((await count(pane, /No library/g)) === 1, `${pane} has the line more than once`);
  }
  assert((await page.locator(".pending, .failed").count()) === 0, "a message waits for its acknowledgement");

  // Somebody else: arrival, typing, lines, departure.
  await tell("others");
  await until("sio-messages", /carol joined the chat/);
  await until("raw-messages", /carol joined the chat/);
  await until("members", /alice[\s\S]*bob[\s\S]*carol/);
  await until("sio-typing", /carol is typing…/);
  await tell("typing-seen");
  await until("sio-messages", /Hello from python-socketio/);
  await until("sio-typing", /^\s*$/);
  await until("raw-messages", /Hello from python-socketio/);
  await t("sio-input").pressSequentially("hm", { delay: 20 });
  await tell("typed"); // the test hears it
  await t("sio-input").fill("All in one room, then.");
  await t("sio-send").click();
  await until("raw-messages", /All in one room/);

  // Notifications, published on the page and from outside.
  await until("notify-state", /listening to orders/);
  for (const [level, title, message] of [
    ["success", "Order 1038 paid", "49.90 EUR by card."],
    ["warning", "Stock is low", "Pencils: 12 left."],
    ["error", "Order 1029 failed", "The carrier did not answer."],
  ]) {
    await t("notify-title").fill(title);
    await t("notify-message").fill(message);
    await t("notify-level").selectOption(level);
    await t("notify-publish").click();
    await until("notify-list", new RegExp(title));
    await until("notify-result", /^sent: 1$/);
  }
  await tell("publish");
  await until("notify-list", /Order 1041 received/);
  await t("notify-title").fill("");
  await t("notify-message").fill("");

  // The secure namespace: a bad token, then one that `realtime token` printed.
  await t("token-input").fill("nonsense");
  await t("token-connect").click();
  await until("secure-state", /refused: .*\(invalid_token\)/);
  const token = JSON.parse(await tell("token"));
  await t("token-input").fill(`${token}\n`);
  await t("token-connect").click();
  await until("secure-state", /connected/);
  await until("secure-facts", /alice[\s\S]*room:join:\*[\s\S]*60 min/);
  await t("secure-text").fill("hello everyone");
  await t("secure-send").click();
  await until("secure-output", /alice: hello everyone/);
  await until("heartbeat-state", /connected, last ping .* answered, round trip [\d.]+ ms/);

  // As it looks, wide and on a phone.
  for (const [name, width, height] of [["demo", 1280, 860], ["demo-phone", 390, 844]]) {
    await page.setViewportSize({ width, height });
    await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
    await page.waitForFunction(() => document.getAnimations().length === 0);
    await page.screenshot({ path: `${pictures}/${name}.png` });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert(over <= 0, `at ${width} px the page scrolls sideways by ${over} px`);
  }
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, textarea, nav a")]
      .filter((one) => one.offsetParent)
      .map((one) => [one.dataset.testid ?? one.id ?? one.textContent, (one.closest("label") ?? one).getBoundingClientRect()])
      .filter(([, box]) => box.height < 43.5 || box.width < 43.5)
      .map(([name, { width, height }]) => `${name} ${Math.round(width)}x${Math.round(height)}`));
  assert(small.length === 0, `too small for a finger: ${small.join(", ")}`);
  await page.setViewportSize({ width: 1280, height: 960 });

  // What people write is text and never markup.
  const markup = `<b id="made">bold</b><img src=x onerror="document.title='run'">`;
  await t("raw-input").fill(markup);
  await t("raw-send").click();
  await until("sio-messages", /<b id="made">/);
  await tell("markup");
  await until("notify-list", /<b id="made">/);
  assert((await page.locator("#made, li img").count()) === 0, "something became markup");
  assert((await page.title()) === "realtime-rooms", "something was run");
  assert(troubles.length === 0, `the console says: ${troubles.join("; ")}`);
  assert(foreign.size === 0, `requests to elsewhere: ${[...foreign].join(", ")}`);

  // The server goes, and comes back on the same port: everything returns by itself, nothing stands there twice.
  await tell("stop-server");
  for (const state of ["sio-state", "raw-state", "heartbeat-state"]) await until(state, /reconnecting/);
  await tell("start-server");
  await until("sio-state", /connected over/);
  await until("raw-state", /connected over websocket/);
  await until("notify-state", /listening to orders/);
  await until("heartbeat-state", /connected/);
  await until("secure-state", /connected/);
  await until("members", /alice[\s\S]*bob/);
  await t("raw-input").fill("Back again");
  await t("raw-send").click();
  await until("sio-messages", /Back again/);
  for (const pane of ["sio-messages", "raw-messages"]) {
    await until(pane, /Back again/);
    assert((await count(pane, /Good morning/g)) === 1, `${pane} repeats what it had`);
  }

  // Another room: its own past, its own people.
  await t("room-input").fill("coffee");
  await t("room-go").click();
  await until("raw-state", /connected/);
  await until("members", /alice[\s\S]*bob/);
  await t("sio-input").fill("in the other room");
  await t("sio-input").press("Enter");
  await until("raw-messages", /in the other room/);
  assert((await count("sio-messages", /Good morning/g)) === 0, "the old room's lines stayed");
  await t("room-input").fill("@alice:bob");
  await t("room-go").click();
  await until("sio-messages", /Could not join @alice:bob: .*\(system_room\)/);
});
