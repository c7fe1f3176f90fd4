// Sound of a recording: all of it in one source, or parts of it in the page, of which the player has one at a time.
"use strict";

class RecordingAudio {
  // `player` is null without audio; `parts` are [start, end, URI].
  constructor(player, parts) {
    Object.assign(this, { player, parts, position: 0, offset: 0, current: -1 });
    this.usesParts = !player?.getAttribute("src");
    player?.addEventListener("loadedmetadata", () => (player.currentTime = this.position - this.offset));
    // The file is not there, or the browser cannot play it.
    player?.addEventListener("error", () => this.replaceFile());
    if (player?.error) this.replaceFile();
    if (player && this.usesParts && this.current < 0) this.load(this.partAt(0));
  }

  // Position in seconds: that of the player, once it has a sound.
  get time() {
    return this.player && this.player.readyState > 0 ? this.offset + this.player.currentTime : this.position;
  }

  has(time) {
    if (!this.player) return false;
    return !this.usesParts || this.partAt(time) >= 0;
  }

  partAt(time) {
    return this.parts.findIndex(([start, end]) => start <= time && time < end);
  }

  replaceFile() {
    if (this.usesParts || !this.parts.length) return;
    this.usesParts = true;
    this.load(this.partAt(this.position));
  }

  seek(time) {
    this.position = time;
    if (!this.player) return;
    const index = this.usesParts ? this.partAt(time) : this.current;
    if (index === this.current) this.player.currentTime = time - this.offset;
    else this.load(index);
  }

  // Let the player have a part, or nothing (-1).
  load(index) {
    this.current = index;
    this.offset = index < 0 ? 0 : this.parts[index][0];
    if (index < 0) this.player.removeAttribute("src");
    else this.player.src = this.parts[index][2];
    this.player.load();
  }

  play() {
    // A browser may refuse, such as a file it cannot decode; the position has been moved nevertheless.
    if (this.player && (!this.usesParts || this.current >= 0)) this.player.play().catch(() => {});
  }
}
