from modeltranslation.translator import TranslationOptions, register

from packages.models import News


@register(News)
class NewsTranslation(TranslationOptions):
    fields = ("title",)
