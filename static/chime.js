// A short sound when an order arrives, if the visitor has turned it on. Browsers allow sound only after a click on the page.

/** The shortest time between two sounds: a busy shop is no alarm. */
const PAUSE_MS = 400;
const LENGTH_S = 0.18;
const PITCH_HZ = 880;

export class Chime {
  #context = null;
  #lastAt = 0;

  set isOn(isOn) {
    if (isOn) {
      this.#context ??= new AudioContext();
      this.#context.resume();
      this.play();
    } else {
      this.#context?.close();
      this.#context = null;
    }
  }

  play() {
    const now = performance.now();
    if (this.#context === null || now - this.#lastAt < PAUSE_MS) return;
    this.#lastAt = now;
    const { currentTime, destination } = this.#context;
    const tone = this.#context.createOscillator();
    const volume = this.#context.createGain();
    tone.frequency.value = PITCH_HZ;
    volume.gain.setValueAtTime(0.2, currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, currentTime + LENGTH_S);
    tone.connect(volume).connect(destination);
    tone.start();
    tone.stop(currentTime + LENGTH_S);
  }
}
