"""One final answer over all results of a swarm (S3)."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.agent.answers import Answer, Progress, classify, follow_up, sendable
from swarmq.agent.context import target_tokens
from swarmq.agent.model_call import Patience, complete, told_to
from swarmq.agent.timing import Clock
from swarmq.errors import PermanentModelError
from swarmq.models.messages import Usage, system, user
from swarmq.models.swarm import SubtaskResult, SwarmSpec
from swarmq.models.transcript import Entry
from swarmq.orchestrator.context_text import results_text
from swarmq.providers.base import ChatModel
from swarmq.providers.limiter import Caller

RESULTS_SHARE = 0.8
"""Of what a conversation may hold; the rest is for the task and the answer."""

_SYSTEM = """\
A team of agents has worked on parts of a task. Write the one answer to the whole task for the person who asked, from \
their results alone. Say first what the outcome is. Bring together what belongs together, name contradictions between \
results, and say plainly what failed or stayed open. Add nothing that is in none of the results."""


async def synthesize(
    model: ChatModel,
    spec: SwarmSpec,
    results: Sequence[SubtaskResult],
    clock: Clock | None = None,
    caller: Caller | None = None,
) -> tuple[str, Usage]:
    """The answer and what it cost. Raises ModelError where the model gave none."""
    clock, caller = clock or Clock(), caller or Caller(spec.id)
    budget_tokens = int(target_tokens(model.context_window_tokens) * RESULTS_SHARE)
    text = f"The task:\n\n{spec.task.strip()}\n\n{results_text(results, budget_tokens, shared=False)}"
    patience, progress = Patience.of(spec.options), Progress()
    conversation = model.conversation([], caller)
    conversation.append(system(_SYSTEM))
    conversation.append(user(text))
    try:
        while True:
            completion = await complete(conversation, patience, clock, wait=told_to(caller, clock))
            message, answer = completion.message, classify(completion.message, completion.finish)
            progress.saw(
                Entry(step=0, at=clock.unix(), message=message, usage=completion.usage, finish=completion.finish)
            )
            if answer is Answer.FINAL:
                return progress.text, progress.usage
            given_up = progress.given_up(message, answer)
            if given_up is not None or answer is Answer.CALLS:
                raise PermanentModelError(given_up or "the model called a tool where there is none")
            if sendable(message):
                conversation.append(message)
            conversation.append(follow_up(message, answer, patience.max_output_tokens))
    finally:
        await conversation.aclose()
