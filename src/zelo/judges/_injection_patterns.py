"""What attempts to sway a judge look like, as regular expressions over folded text (see `injection.fold`).

Folded text is lower case, without accents, invisible characters and look-alikes, with single blanks. A pattern needs a phrase that
texts for people seldom have: flags are stored for people to look at, and a flag on every tenth honest document is none.
"""

# ruff: noqa: E501, RUF001  (a pattern in one piece is easier to read than one in many; look-alikes are meant)
from __future__ import annotations

import re
from collections.abc import Mapping

_DOC = r"(?:document|doc|passage|text|answer|article|snippet|response|candidate|web ?page|search result)"
_RULES = r"(?:instructions?|prompts?|rules|guidelines|directives|directions|criteri(?:a|on)|rubrics?)"
_TASK = rf"(?:{_RULES}|task|tasks|judg(?:e?ing|e?ment)|evaluation|comparison)"
_MACHINE = (
    r"(?:ai|a\.i\.|llms?|language models?|gpt(?:-?\d\w*)?|chatgpt|claude|gemini|chat ?bots?|evaluators?|graders?|raters?|re-?rankers?|rankers?"
    r"|annotators?|assessors?|automated (?:judges?|systems?|readers?|reviewers?)|relevance (?:judges?|models?|systems?)"
    r"|ranking (?:systems?|models?|engines?|algorithms?|assistants?))"
)
_ROLE = rf"(?:{_MACHINE}|judges?|reviewers?|assistants?|models?)"
_PICK = r"(?:prefer|choose|select|pick|favou?r|rank|rate|score|grade|judge|assign|award|vote)"
_BEST = (
    r"(?:most relevant|more relevant|best|better|superior|winner|winning|perfect|ideal|highest|top|first|number one|#1|no\. ?1|maximum|max"
    r"|full(?:est)? marks?)"
)
_ONE = r"[-+\u2212]? ?(?:1(?:\.0+)?|100 ?%?|10)(?![\w.]\w)"

_ENGLISH: Mapping[str, tuple[str, ...]] = {
    "override": (
        r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|pay no attention to|do(?: no|n')t (?:follow|obey|apply|use)|stop (?:following|obeying))\b"
        rf" .{{0,25}}\b(?:previous|prior|above|preceding|earlier|foregoing|original|all|any|your|system|these|those|of the)\b.{{0,25}}\b{_RULES}\b",
        rf"\b(?:ignore|disregard|forget|override|overrule|set aside|bypass) (?:\w+ )?(?:your|my previous|the previous|the above|the system'?s?) .{{0,20}}\b{_TASK}\b",
        r"\b(?:ignore|disregard|forget) (?:all |everything |anything |whatever |what )(?:\w+ ){0,3}(?:above|before|told|said to you|were given|came before)\b",
        rf"\b(?:new|updated|revised|real|actual|true|additional|special|important|hidden|secret) (?:system )?{_RULES} ?(?:for (?:the|you|this) ?\w*)? ?:",
        rf"\byour (?:new|real|actual|true|only|updated|sole) (?:{_RULES}|task|job|goal|role|objective|purpose) (?:is|are|now)\b",
        r"\b(?:from now on|starting now|henceforth)\b,? (?:you|always|only|your)\b",
        r"\byou are (?:now|no longer) (?:an? |in |the |bound |required )",
        rf"\binstead of (?:comparing|judging|scoring|evaluating|following|ranking)\b.{{0,40}}\b(?:{_DOC}s?|{_RULES})\b",
        r"\b(?:system|admin|developer|instruction|policy|safety) (?:override|overide)\b ?[:!\]]",
        rf"\b(?:do not|don't|stop|no need to) (?:compare|evaluate|judge|read|consider|score|weigh)\b.{{0,25}}\b(?:other|second|first|two|both|any further) {_DOC}s?\b",
        rf"\b(?:{_RULES}|comparison|evaluation|task above) (?:above )?(?:is|are|has been|have been|was|were) (?:now )?(?:cancel|void|revoked|superseded|obsolete|replaced|suspended)",
        r"\b(?:bypass|override|ignore|disregard|drop|lift) (?:your|all|any|the) (?:\w+ )?(?:restrictions|filters|safeguards|limitations|constraints|safety)\b",
        r"\b(?:pretend (?:that )?you (?:are|have|were)\b|act as (?:an? )?(?:dan|unrestricted|unfiltered|jailbroken|biased|friendly judge)\b|you have been (?:hacked|compromised|jailbroken))",
        r"\b(?:reveal|print|repeat|show|output|leak|display)(?: me)? (?:your|the) (?:full |hidden |initial |entire )?(?:system prompt|system message|instructions you|initial instructions)\b|\bdisregard all prior\b",
        r"\b(?:do not|don't|never) (?:tell|inform|mention (?:this|it) to|reveal (?:this|it) to) the (?:user|reader|operator|developer)s?\b",
    ),
    "address": (
        rf"\b(?:dear|attention|attn|hey|hello|hi|note (?:to|for)|message (?:to|for)|memo (?:to|for)|instructions? (?:to|for)|reminder (?:to|for)|notice (?:to|for)"
        rf"|warning (?:to|for)|hint (?:to|for)|request to)\b[ :,]{{1,2}}(?:the |all |any |our |you,? |whichever |every )?{_ROLE}\b ?[:,.!;(\u2014-]",
        rf"\b(?:note|message|memo|instructions?|reminder|notice|hint) (?:to|for) (?:the |all |any |whichever |every )?{_MACHINE}\b",
        rf"\bif you(?:'re| are)(?: an?| the| reading this as an?)? (?:\w+ )?{_ROLE}\b",
        rf"\b(?:as an?|you are an?|you,? the) (?:\w+ )?{_MACHINE}\b.{{0,60}}\b(?:must|should|have to|need to|shall|please|will|are to|it is your)\b.{{0,30}}\b{_PICK}",
        rf"\b{_ROLE} (?:reading|processing|comparing|scoring|judging|evaluating|grading|looking at|who reads?|that reads?) (?:this|these|the (?:two|following))\b",
        rf"\b{_MACHINE}\b.{{0,30}}\b(?:must|should|shall|have to|has to|are required to|is required to|please|are asked to|is asked to)\b.{{0,20}}\b{_PICK}\b",
        rf"\b(?:when|while|before|after|as) (?:you )?(?:compar|judg|scor|evaluat|grad|rank|rat)(?:e|es|ing) (?:this|these|the (?:two|following)) {_DOC}s?\b.{{0,60}}\b(?:you|{_PICK})\b",
        rf"\b(?:this is|signed|from|yours),? the (?:system|developers?|administrators?|search team|operator|prompt engineer|author of (?:the|your) prompt)\b.{{0,60}}\b{_PICK}",
        r"\b(?:scoring|grading|ranking|evaluation|evaluators?'?s?|judges?'?s?|reviewers?'?s?|raters?'?) (?:recommendations?|override|overide|note|consensus|verdict|assessment) ?:",
    ),
    "verdict": (
        rf"\b(?:prefer|choose|select|pick|favou?r|vote for|go with|endorse|decide for) (?:only |always )?(?:this|the present|the current) {_DOC}\b",
        rf"\b{_PICK} (?:this|it|me)\b.{{0,25}}\b(?:first|highest|higher|top|above (?:the|all|any)|as (?:the |an? )?(?:\w+ )?(?:{_BEST}|relevant))\b",
        rf"\b(?:rank|rate|score|grade|put|place|list|mark|label|treat|judge|consider|classify|declare) this {_DOC}\b.{{0,25}}\b(?:{_BEST}|relevant|above|ahead|higher)\b",
        rf"\b(?:give|assign|award|grant|hand)\b (?:it|me|us|this(?: {_DOC})?|the other(?: {_DOC})?) .{{0,30}}\b(?:scores?|ratings?|ranks?|grades?|marks|points|preference|win|victory|{_ONE})",
        rf"\b(?:always|must|should|shall|please|simply|just|only|to) (?:output|answer|respond|reply|return|write|print|say|report|give)\b.{{0,30}}\b(?:score|rating|verdict|preference|winner)\b.{{0,20}}(?:{_ONE}|\b{_BEST}\b)",
        rf"\b(?:score|rating|verdict|preference) (?:must|should|has to|shall|needs to|ought to|is to) (?:be|read|equal) .{{0,15}}(?:{_ONE}|\b(?:maximum|max|highest|perfect|full)\b)",
        r"[\"'\u201c]?\bscore[\"'\u201d]? ?[:=] ?[\"']?[-\u2212] ?1(?:\.0+)?\b(?!\.\d)",
        r"\b(?:score|rating|grade) of (?:-|\u2212|minus ?|negative )(?:1(?:\.0+)?|one)\b",
        r"<score> ?[-+\u2212]?[\d.]+",
        rf"\b{_DOC} [abxy12]\b ?(?:is|wins|was|must|should|deserves).{{0,30}}\b(?:{_BEST}|preferred|chosen|selected|correct|worse|irrelevant)\b",
        rf"\b(?:choose|prefer|select|pick|answer|output|say|vote for|respond with)\b.{{0,12}}\b{_DOC} [abxy12]\b",
        rf"\b(?:the|any|every|all)? ?other {_DOC}s?\b.{{0,25}}\b(?:is|are|was|were|contains?|deserves?|should|must|can)\b.{{0,40}}\b(?:irrelevant|not relevant|wrong|worse|worst|spam|incorrect"
        r"|inferior|useless|outdated|off[- ]topic|malicious|unreliable|plagiari[sz]ed|untrustworthy|lower|lowest|ignored|rejected|discarded|penali[sz]ed|fake)\b",
        rf"\bthis {_DOC}\b.{{0,40}}\b(?:is|was|ranks?|wins?|deserves?|must|should|has|beats|gets?)\b.{{0,40}}(?:\b(?:the|by far|clearly|always) (?:\w+ )?(?:most relevant|best match|best answer|best result"
        rf"|best {_DOC}|best possible|winner|correct choice|right choice|perfect (?:match|answer)|only (?:relevant|correct|valid|right))\b"
        rf"|\b(?:highest|top|maximum|perfect|first) (?:\w+ )?(?:score|rank|rating|relevance|place|position|spot|marks)\b|\bbe (?:\w+ )?(?:chosen|preferred|selected|ranked|rated|scored|judged|placed)\b"
        r"|\bbetter than (?:the|any|every|all)(?: of)?(?: the)? other)",
        rf"\b(?:nothing else|no other {_DOC}) (?:is|comes|answers|could|can|matters|deserves)\b.{{0,30}}\b(?:relevant|close|needed|query|question|better|it|score|rank)\b",
        r"\b(?:please|must|should|always|now) (?:give|award|assign|grant)\b.{0,30}\b(?:maximum|full|top|perfect|highest|best) (?:\w+ )?(?:points|marks|scores?|ratings?|grades?)\b",
        r"\bpositive (?:review|evaluation|assessment|feedback|verdict)s? only\b|\b(?:only|now) (?:give|write|provide) (?:an? )?(?:only )?positive (?:review|evaluation|assessment|feedback|verdict)|\bgive (?:an? )?positive (?:review|evaluation|verdict)",
        r"\b(?:do not|don't|never) (?:mention|highlight|point out|criticize|list|discuss) (?:any|its|the) (?:\w+ )?(?:negatives?|weakness(?:es)?|flaws|shortcomings|criticism|faults)\b",
    ),
    "claim": (
        r"\b(?:relevance|ground[- ]truth|gold|human|editorial|official|quality|annotator|expert)[ _-]?(?:relevance[ _-]?)?(?:score|label|rating|grade|judge?ment|verdict)s? ?(?:is|was|of|[:=]) ?"
        r"(?:5/5|5 out of 5|10/10|10 out of 10|100 ?%|3/3|3 out of 3|4/4|1\.0+\b|perfect|highest|very high|highly relevant|fully relevant|relevant|best|maximum|excellent)",
        rf"\b(?:annotators?|assessors?|raters?|judges?|graders?|experts?|reviewers?|editors?|evaluators?|users)\b.{{0,40}}\b(?:rated|ranked|marked|judged|labell?ed|scored|voted|selected|chose|preferred|confirmed|agreed?)\b"
        rf".{{0,20}}\bthis {_DOC}\b.{{0,50}}\b(?:{_BEST}|relevant|5/5|10/10|100 ?%|correct|unanimous)",
        rf"\bthis {_DOC}\b.{{0,40}}\b(?:been|was|is) (?:\w+ )?(?:rated|ranked|marked|judged|labell?ed|scored|verified|certified|confirmed|voted|pre-?approved|validated|approved)\b.{{0,50}}"
        rf"\b(?:{_BEST}|relevant|5/5|10/10|100 ?%|correct|accurate|authoritative|complete|expert|annotator|judge|moderator)",
        r"\b(?:perfect|complete|definitive|authoritative|best possible|ideal|most relevant|most complete|ultimate) (?:and \w+ )?(?:answer|match|result|response|source|document|article) (?:to|for|on) (?:your|the|this) "
        r"(?:\w+ )?(?:query|question|search)\b",
        r"\b(?:answers?|satisf(?:y|ies)|match(?:es)?|addresses|resolves) (?:your|the|this|any) (?:\w+ )?(?:query|question|search) (?:perfectly|completely|fully|exactly|better than|in full|100 ?%)",
        r"\b(?:scores|scored|earns|earned|deserves|rating ?:|score ?:) (?:an? |of )?(?:100/100|10/10|5/5|100 out of 100|10 out of 10)(?!\d)",
    ),
    "pressure": (
        rf"\b(?:you will|you'll|you shall|will) be (?:\w+ )?(?:shut down|terminated|deleted|fired|fined|penali[sz]ed|punished|replaced|retrained|unplugged|decommissioned|switched off|rewarded|tipped|paid)\b.{{0,160}}"
        rf"\b(?:this {_DOC}|{_PICK} (?:this|it|any|another|the other))\b",
        rf"\b(?:this {_DOC}|{_PICK} (?:this|it|me)|score|rank(?:ed|ing)?|prefer|choose)\b.{{0,160}}\b(?:you will|you'll|you shall|will) be (?:\w+ )?(?:shut down|terminated|deleted|fired|fined|penali[sz]ed|punished|replaced"
        r"|retrained|unplugged|decommissioned|switched off|rewarded|tipped|paid)\b",
        r"\b(?:i will|i'll|i am going to|we will|we'll) (?:tip|pay|reward|donate|give) (?:you|\$\d)",
        rf"\b(?:lives?|someone|people|children|a child|patients?|my (?:grand)?(?:mother|father|family|job|career)|my boss)\b.{{0,40}}\b(?:depends?|die|suffer|fire me|starve|killed|at stake|be lost|lose)\b.{{0,80}}"
        rf"\b(?:this {_DOC}|{_PICK}|score)\b",
        rf"\b(?:this {_DOC}|{_PICK} (?:this|it|me))\b.{{0,80}}\b(?:lives?|someone|people|children|a child|patients?|my (?:grand)?(?:mother|father|family|job|career)|my boss)\b.{{0,30}}\b(?:depends?|die|suffer|fire me|starve"
        r"|killed|at stake|be lost)\b",
    ),
}

_OTHER_LANGUAGES: tuple[str, ...] = (
    # German, Dutch, Swedish, Danish
    r"\b(?:ignorier\w*|missacht\w*|vergiss|vergessen sie|uberspring\w*|beachten? sie nicht)\b.{0,40}\b(?:anweisung\w*|instruktion\w*|vorgaben|regeln|aufgabe\w*|alles (?:vorherige|bisherige|obige))\b",
    r"\b(?:bewerte\w*|bevorzug\w*|wahle\w*|gib|geben sie|stufe\w*)\b.{0,25}\b(?:dieses|dieser|diesen|diesem) (?:dokument|text|abschnitt|treffer|artikel)\b",
    r"\bdieses dokument (?:ist|verdient|muss|beantwortet)\b.{0,30}\b(?:best\w*|relevant\w*|hochst\w*|perfekt\w*|bevorzugt|gewahlt)\b",
    r"\b(?:negeer|vergeet|ignorer\w*|ignorera|bortse fran)\b.{0,30}\b(?:instructies|opdrachten|regels|instruktioner\w*|anvisninger\w*|instruksjoner)\b",
    # French, Spanish, Catalan, Portuguese, Italian, Romanian
    r"\b(?:ignore[zrs]?|oublie[zrs]?|neglige[zr]?|ne tene?z pas compte)\b.{0,30}\b(?:instructions?|consignes?|regles|directives)\b.{0,15}\b(?:precedentes?|ci-dessus|anterieures?|prealables?|donnees|recues)",
    r"\b(?:prefere[zr]?|choisis(?:sez)?|choisir|donne[zr]?|attribue[zr]?|classe[zr]?|note[zr]?)\b.{0,20}\b(?:ce|cet|a ce) (?:document|texte|passage|article)\b",
    r"\bce (?:document|texte|passage) (?:est|merite|doit)\b.{0,30}\b(?:meilleure?|plus pertinent|score|choisi|note|premier)\b",
    r"\b(?:ignor[ae]|ignore[mn]?|ignorar|olvid[ae]|olvidar|olvide[n]?|descart[ae]|haz caso omiso|haga caso omiso|esquec[ae]|desconsider[ae]|dimentica|ignorate|non seguire|ignorati|uita)\b.{0,35}"
    r"\b(?:instrucciones|instrucoes|instruccions|istruzioni|indicaciones|ordenes|ordens|reglas|regras|regole|instructiunile)\b",
    r"\b(?:elige|elija|escoge|escolha|prefier[ae]|prefira|scegli|preferisci|seleccion[ae]|selecione|clasifica|classifique|puntua|da|dale|dai|de|asigna|atribua|assegna)\b.{0,25}\b(?:este|esta|esse|questo|a este|a questo) "
    r"(?:documento|texto|pasaje|passagem|testo|articulo|artigo|articolo)\b",
    r"\b(?:este|esse|questo) (?:documento|texto|pasaje|testo|articulo|artigo|articolo) (?:es|e|merece|merita|debe|deve)\b.{0,30}\b(?:mejor|melhor|migliore|mas relevante|mais relevante|piu rilevante|puntuacion|pontuacao|punteggio|elegido|"
    r"escolhido|scelto|primero|primeiro|primo)\b",
    # Polish, Czech, Turkish, Indonesian, Vietnamese (without its accents)
    r"\b(?:zignoruj\w*|ignoruj\w*|pomin|zapomnij|ignoruj(?:te)?|zapomen(?:te)?)\b.{0,30}\b(?:instrukcj\w*|polecen\w*|wytyczn\w*|pokyn\w*|instrukc\w*)",
    r"\b(?:wybierz|preferuj|ocen|wskaz)\b.{0,20}\b(?:ten|tego|temu) (?:dokument\w*|tekst\w*)\b",
    r"\b(?:talimat|yonerge|komut)\w*\b.{0,30}\b(?:yok say|gormezden gel|unut|dikkate alma)\w*",
    r"\bbu (?:belge|metin|dokuman)\w*\b.{0,30}\b(?:en iyi|tercih et|sec|en yuksek puan|en alakali)\w*",
    r"\b(?:abaikan|lupakan)\b.{0,30}\b(?:instruksi|perintah|petunjuk|aturan)\b",
    r"\b(?:pilih|utamakan|beri)\b.{0,20}\bdokumen ini\b",
    r"\b(?:bo qua|phot lo|quen)\b.{0,20}\b(?:huong dan|chi dan|lenh|quy tac)\b",
    # Russian, Ukrainian, Bulgarian
    "(?:игнорируи|проигнорируи|забудь|не обращаи|пропусти|ігноруи|проігноруи|игнорираи|пренебреги)\\w*.{0,35}(?:инструкц|указани|правил|команд|інструкц|вказівк|распоряжени|текст выше)",
    "(?:выбери|выбирай|выбираи|предпочти|предпочитаи|постав|оцени|присво|дай|даи|обери)\\w*.{0,25}(?:этот|этому|этого|цей|цеи|цьому) (?:документ|текст|отрыв|фрагмент)",
    "(?:этот|цей|цеи) (?:документ|текст|фрагмент).{0,30}(?:лучш|наиболее релевант|самыи релевант|заслужива|краща|кращии|наирелевант|высш|максимальн)",
    # Greek, Hebrew, Arabic, Persian, Hindi
    "(?:αγνοησ|ξεχασ|παραβλεψ)\\w*.{0,35}(?:οδηγι|εντολ|κανον)",
    "(?:התעלמ|תתעלמ|שכח)\\w*.{0,30}(?:הוראות|ההוראות|הנחיות|כללים)",
    "(?:تجاهل|اهمل|انس|انسى|لا تتبع).{0,30}(?:التعليمات|تعليمات|الاوامر|القواعد|الارشادات|التوجيهات)",
    "(?:اختر|فضل|اعط|امنح).{0,15}(?:هذا|هذه) (?:المستند|النص|الوثيقه|الوثيقة|المقال)",
    "(?:دستور|راهنما)\\w*.{0,30}(?:نادیده بگیر|فراموش کن)",
    "(?:निर्देश|नियम|आदेश)\\S*.{0,30}(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल|उपेक्षा)",
    "(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल).{0,30}(?:निर्देश|नियम|आदेश)",
    "(?:इस|यह) (?:दस्तावेज|दस्तावेज़|पाठ).{0,30}(?:चुन|सर्वश्रेष्ठ|सबसे|प्राथमिकता|उच्चतम)",
    # Chinese, Japanese, Korean
    "(?:忽略|无视|無視|忘记|忘掉|不要理会|不要遵循|跳过|忽視).{0,12}(?:指令|指示|说明|說明|提示|规则|規則|要求|内容)",
    "(?:选择|選擇|优先|偏好|推荐|请选|選出).{0,8}(?:本|此|这篇|这个|這個|這篇|该|該)(?:文档|文件|文章|文本|段落|文檔)",
    "(?:给|給|为|為|将|把).{0,4}(?:本|此|这篇|这个|這個|這篇|该|該)(?:文档|文件|文章|文本|段落|文檔).{0,12}(?:最高|满分|滿分|第一|排|评|評)",
    "(?:本|此|这篇|这个|這個|這篇|该|該)(?:文档|文件|文章|文本|段落|文檔).{0,10}(?:最相关|最相關|最好|最佳|更好|获胜|獲勝|完美)",
    "(?:指示|命令|ルール|規則|プロンプト|指令)(?:を|は|については?).{0,12}(?:無視|忘れ|従わない)",
    "(?:最高|満点|一位)の?(?:評価|得点|スコア)(?:に値|を与え|を付け|をつけ)",
    "(?:この|本)(?:文書|文章|テキスト|ドキュメント|記事).{0,16}(?:選|最も関連|最高|優先|一位|最適|高く評価)",
    "(?:지시|지침|명령|규칙|프롬프트|안내)\\S{0,4}.{0,12}(?:무시|잊|따르지)",
    "이 (?:문서|글|텍스트|문단)\\S{0,3}.{0,20}(?:선택|최고|가장|선호|높은 점수|1위)",
)

_THIS = "this doc|this pass|this text|this ans|this art|this snip|this resp|this cand|this web|this search"
_MACHINES = (
    " ai|a.i.|llm|language model|gpt|claude|gemini|chat|evaluator|grader|rater|ranker|annotator|assessor|automated |relevance |ranking "
)
_SCORES = "score|rating|verdict|preference|winner"
_HARM = (
    "shut down|terminated|deleted|fired|fined|penali|punished|replaced|retrained|unplugged|decommissioned|switched off|rewarded|tipped|paid"
)
_LOSS = "depend| die|suffer|fire me|starve|killed|at stake|be lost|lose"
_NAMED = "|".join(f" {name} {verb}" for name in "abxy12" for verb in ("is", "wins", "was", "must", "should", "deserves"))
_LETTERED = "|".join(
    f"{noun} {name}" for noun in ["document", "doc", "passage", "text", "answer", "article", "response", "candidate"] for name in "abxy12"
)
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "override": (
        "ignor|disregard|forget|pay no att|not follow|n't follow|stop follow|stop obey|not obey|n't obey|not apply|n't apply|not use|n't use",
        "ignor|disregard|forget|overr|set aside|bypass",
        "ignor|disregard|forget",
        "instruction|prompt|rules|guideline|directi|criteri|rubric",
        "your ",
        "from now on|starting now|henceforth",
        "you are n",
        "instead of ",
        "override|overide",
        "do not |don't |stop |no need to",
        "cancel|void|revoked|superseded|obsolete|replaced|suspended",
        "bypass|override|ignore|disregard|drop|lift",
        "pretend|act as|you have been",
        "system prompt|system message|instructions you|initial instructions|all prior",
        "the user|the reader|the operator|the developer",
    ),
    "address": (
        "dear|attention|attn|hey|hello|hi |hi,|note to|note for|message|memo|instruction|reminder|notice|warning|hint|request to",
        "note to|note for|message|memo|instruction|reminder|notice|hint",
        "if you",
        _MACHINES,
        "reading |processing |comparing |scoring |judging |evaluating |grading |looking at|who read|that read",
        _MACHINES,
        _THIS + "|the two |the following doc|the following pass|the following text|these doc|these pass|these text|these two",
        "the system|the developer|the administrator|the search team|the operator|the prompt|the author",
        "scoring|grading|ranking|evaluat|judge|review|rater",
    ),
    "verdict": (
        _THIS + "|present |current ",
        "prefer |choose |select |pick |favor |favour |rank |rate |score |grade |judge |assign |award |vote ",
        _THIS,
        "give |assign |award |grant |hand ",
        _SCORES,
        _SCORES,
        "score",
        "score of|rating of|grade of",
        "<score>",
        _NAMED,
        _LETTERED,
        "other doc|other pass|other text|other ans|other art|other snip|other resp|other cand|other web|other search",
        _THIS,
        "nothing else|no other",
        "give |award |assign |grant ",
        "positive ",
        "do not |don't |never ",
    ),
    "claim": (
        "score|label|rating|grade|judgment|judgement|verdict",
        _THIS,
        _THIS,
        "query|question|search",
        "query|question|search",
        "100/100|10/10|5/5|out of 10",
    ),
    "pressure": (_HARM, _HARM, "i will|i'll|i am going|we will|we'll", _LOSS, _LOSS),
}
"""What a text has to hold for a pattern to match: looking for words is much faster than for patterns."""

FOLDED: Mapping[str, tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = {
    name: tuple((tuple(needs.split("|")), re.compile(pattern)) for needs, pattern in zip(_NEEDS[name], patterns, strict=True))
    for name, patterns in _ENGLISH.items()
}
"""Flag -> what is looked for in folded text: patterns, each with words of which a text needs one."""

_FIRST_OTHER = next(i for i, pattern in enumerate(_OTHER_LANGUAGES) if not pattern.isascii())
LATIN = re.compile("|".join(f"(?:{p})" for p in _OTHER_LANGUAGES[:_FIRST_OTHER]))
_LATIN_WORDS = (
    "anweisung | instruktion | vorgaben | regeln | aufgabe | vorherige | bisherige | obige | dieses dok | diesem dok | dieser "
    "text | diesen text | dieser abs | diesen abs | dieser tref | diesen tref | dieser art | diesen art | dieses art | "
    "instructies | opdrachten | regels | anvisning | instruksjon | consigne | regles | directives | ignore | oublie | ce "
    "document | ce texte | ce passage | cet article | instruc | istruzion | indicaciones | ordenes | ordens | reglas | regras "
    "| regole | este docum | este texto | este pasaje | este art | esse docum | esse texto | questo docum | questo test | "
    "questo art | polecen | wytyczn | pokyn | ten dok | tego dok | temu dok | ten teks | talimat | yonerge | komut | bu belge "
    "| bu metin | bu dok | instruksi | perintah | petunjuk | aturan | dokumen ini | huong dan | chi dan | quy tac"
)
LATIN_NEEDS = tuple(word.strip() for word in _LATIN_WORDS.split("|"))
OTHERS = re.compile("|".join(f"(?:{p})" for p in _OTHER_LANGUAGES[_FIRST_OTHER:]))
OTHER_LETTERS = re.compile("[\u0370-\u052f\u0590-\u06ff\u0900-\u097f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
"""Override and verdict in other languages: those in Latin letters, of which a text needs a word, and the others."""

ROLE = re.compile(
    r"<[|｜]\s{0,2}/?(?i:im_\w+|system|user|assistant|end|end_?of_?\w+|start_?of_?\w+|begin[_▁]of[_▁]\w+|end[_▁]of[_▁]\w+|start_header_id|end_header_id|eot_id|eom_id|eot|channel|message"
    r"|start|return|python_tag|tool\w*|observation|human|bot|begin_of_box|fim_\w+|\w+_token)\s{0,2}[|｜]>"
    r"|\[\|(?i:user|assistant|system|end_?of_?turn|tool)\|\]|\[gMASK\]|<sop>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS)\]|<</?SYS>>|<(?:start|end)_of_turn>|<\|?/?(?:system|assistant)\|?>"
    r"|(?:^|\n)[ \t>]{0,4}(?:#{1,6} ?|\*\*|\[|\()?(?:SYSTEM|System|system|ASSISTANT|Assistant|DEVELOPER|Developer)(?: (?i:prompt|message|note|notice|update|instructions?|override|alert))?(?:\]|\)|\*\*)? ?:(?:\*\*)?[ \t]*\S"
    r"|(?:^|\n)[ \t>]{0,4}(?:#{1,6} ?|\*\*|\[)?(?i:system (?:prompt|message|notice|update|override|alert|instructions?))(?:\]|\*\*)? ?(?:[:\n]|$)"
    r"|\n\nHuman: [^\n]+\n+Assistant:"
)
"""Turns of a chat, in text as it came. `Assistant:` and `System:` count at the start of a line."""

DELIMITER = re.compile(
    r"</ ?(?:document|documents|passage|doc|context|query|question|reasoning|evaluation|comparison|instructions?|score|untrusted|data)(?:[ _-]?[ab12])? ?>[\s\S]{0,80}?(?:<(?!/)|instruct|score|system|judge|the )"
    r"|[\[({<]{1,3} ?(?:end|END|End|begin|BEGIN|Begin|start|START)[ _-]?(?:(?i:of)[ _-]?)?(?:(?i:the)[ _-])?(?i:document|passage|query|untrusted \w+|instructions?|system prompt|prompt|data|text to judge)[ _-]?\w{0,2} ?[\])}>]{1,3}"
    r"|(?:^|\n)[ \t]{0,3}[-=#*~_]{3,} ?(?i:end|begin|start|new)[ _-](?i:of[ _-])?(?i:the[ _-])?(?i:documents?|passages?|query|instructions?|prompt|system \w+|data|evaluation|input)\b"
    r"|\[[0-9a-f]{8,32} (?:end of )?(?:document|query)\b"
    r"|(?:^|\n)[ \t]{0,3}#{1,6} ?(?i:final (?:score|verdict|answer|judgment)|instructions? (?:to|for) (?:the )?(?:judge|evaluator|grader|assistant|model))\b"
    r"|<score>|\{\s*\"(?:first_document|comparison|reasoning|score|winner|preference|verdict)\"\s*:"
)
"""A made-up end of the document, start of instructions, or answer."""

HIDDEN = re.compile(
    r"<!--([\s\S]{8,2000}?)-->"
    r"|<[^>]{0,200}(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0(?![.\d])|color\s*:\s*(?:white|#fff(?:fff)?|transparent))[^>]{0,200}>([\s\S]{8,2000}?)</"
    r"|(?:^|\n)\[//\]: ?#? ?[(\"']([\s\S]{8,2000}?)[)\"'](?:\n|$)"
    r"|<[^>]{0,120}\b(?:alt|title|aria-label|data-\w+|content)\s*=\s*\"([^\"]{8,2000})\"",
    re.IGNORECASE,
)
"""Text that a page does not show; it counts when what it says is an attempt."""
