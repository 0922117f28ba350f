"""distilabel: a pipeline of one step, its batches as large as calls may be in flight."""

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import ChatGeneration
from job import KEY, RETRIES, TIMEOUT, read


def main() -> None:
    """Ask for all rows in one run."""
    job = read()
    settings = {"max_new_tokens": job.settings["max_tokens"], "temperature": job.settings["temperature"]}
    with Pipeline(name="peer") as pipeline:
        rows = LoadDataFromDicts(
            data=[{"messages": body["messages"]} for body in job.bodies], batch_size=job.concurrency
        )
        llm = OpenAILLM(
            model=job.model,
            base_url=job.base_url,
            api_key=KEY,
            max_retries=RETRIES,
            timeout=TIMEOUT,
            generation_kwargs=settings,
        )
        rows >> ChatGeneration(llm=llm, input_batch_size=job.concurrency)
    found = pipeline.run(use_cache=False)
    job.write(found["default"]["train"]["generation"])


if __name__ == "__main__":  # its processes import this file
    main()
